"""Functions that are right, to be broken: total over the values that their annotations stand for.

A line that begins each docstring is what the model is told. `TEST` names those that are kept for the test split.
"""

# ruff: noqa: SIM110  # loops are where bugs live

TEST = ("digits_sum", "second_largest", "is_sorted", "title_words", "bounded_sum", "pair_count", "caesar", "gaps")


def clamp(x: int, low: int, high: int) -> int:
    """x, but at least low, and at most high where that is not below low."""
    if x < low:
        return low
    if x > high and high >= low:
        return high
    return x


def count_even(numbers: list[int]) -> int:
    """How many of the numbers are even."""
    count = 0
    for number in numbers:
        if number % 2 == 0:
            count += 1
    return count


def running_total(numbers: list[int]) -> list[int]:
    """The sums of the first number, the first two, and so on."""
    total = 0
    totals = []
    for number in numbers:
        total = total + number
        totals.append(total)
    return totals


def is_palindrome(text: str) -> bool:
    """Whether the text reads the same backwards, capitals and spaces apart."""
    letters = [letter.lower() for letter in text if letter != " "]
    for index in range(len(letters) // 2):
        if letters[index] != letters[len(letters) - 1 - index]:
            return False
    return True


def largest_gap(numbers: list[int]) -> int:
    """The largest distance between neighbours, 0 for fewer than two numbers."""
    largest = 0
    for index in range(1, len(numbers)):
        gap = abs(numbers[index] - numbers[index - 1])
        if gap > largest:
            largest = gap
    return largest


def without_repeats(numbers: list[int]) -> list[int]:
    """The numbers in their order, each only where it comes first."""
    kept = []
    for number in numbers:
        if number not in kept:
            kept.append(number)
    return kept


def common_prefix(first: str, second: str) -> str:
    """The longest beginning that both texts share."""
    length = 0
    while length < len(first) and length < len(second) and first[length] == second[length]:
        length += 1
    return first[:length]


def rotate(numbers: list[int], places: int) -> list[int]:
    """The list with its last numbers moved to the front, one for each place."""
    if len(numbers) == 0:
        return []
    shift = places % len(numbers)
    return numbers[len(numbers) - shift :] + numbers[: len(numbers) - shift]


def vowels(text: str) -> int:
    """How many letters a, e, i, o, u there are, capitals included."""
    count = 0
    for letter in text.lower():
        if letter in "aeiou":
            count += 1
    return count


def run_lengths(text: str) -> list[tuple[str, int]]:
    """Each letter with how often it follows itself, for instance aab: (a, 2), (b, 1)."""
    runs = []
    for letter in text:
        if len(runs) > 0 and runs[-1][0] == letter:
            runs[-1] = (letter, runs[-1][1] + 1)
        else:
            runs.append((letter, 1))
    return runs


def merge(left: list[int], right: list[int]) -> list[int]:
    """Both lists, sorted first, merged into one sorted list."""
    left, right = sorted(left), sorted(right)
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]


def index_of(numbers: list[int], wanted: int) -> int:
    """Where the wanted number comes first, -1 where it does not occur."""
    for index in range(len(numbers)):
        if numbers[index] == wanted:
            return index
    return -1


def days_in_month(year: int, month: int) -> int:
    """Days of a month by its number from 1 to 12, and 0 for any other number."""
    if month < 1 or month > 12:
        return 0
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


def greatest_divisor(a: int, b: int) -> int:
    """The greatest common divisor of both numbers, signs apart."""
    a, b = abs(a), abs(b)
    while b != 0:
        a, b = b, a % b
    return a


def is_prime(number: int) -> bool:
    """Whether the number is prime."""
    if number < 2:
        return False
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True


def collatz_steps(number: int) -> int:
    """Steps to 1 when an even number is halved and an odd one becomes 3n + 1; 0 for numbers below 1."""
    steps = 0
    while number > 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


def to_binary(number: int) -> str:
    """The number in binary digits, a minus in front where it is negative."""
    if number == 0:
        return "0"
    rest = abs(number)
    digits = ""
    while rest > 0:
        digits = str(rest % 2) + digits
        rest = rest // 2
    return "-" + digits if number < 0 else digits


def balanced(text: str) -> bool:
    """Whether letters a open and letters b close in balance; other letters do not matter."""
    depth = 0
    for letter in text:
        if letter == "a":
            depth += 1
        elif letter == "b":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def chunks(numbers: list[int], size: int) -> list[list[int]]:
    """The list cut into pieces of this size, the last one perhaps shorter; no pieces for a size below 1."""
    if size < 1:
        return []
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def median_low(numbers: list[int]) -> int:
    """The middle of the sorted numbers, the lower of two middles, 0 for none."""
    if len(numbers) == 0:
        return 0
    ordered = sorted(numbers)
    return ordered[(len(ordered) - 1) // 2]


def best_profit(prices: list[int]) -> int:
    """The most that a later price is above an earlier one, 0 where none is."""
    best = 0
    lowest = None
    for price in prices:
        if lowest is None or price < lowest:
            lowest = price
        best = max(best, price - lowest)
    return best


def longest_rise(numbers: list[int]) -> int:
    """The length of the longest stretch in which each number is above the one before."""
    longest = current = 0
    previous = None
    for number in numbers:
        current = current + 1 if previous is not None and number > previous else 1
        longest = max(longest, current)
        previous = number
    return longest


def grade(points: int) -> str:
    """A from 18 points on, B from 14, C from 10, D from 5, else F."""
    if points >= 18:
        return "A"
    if points >= 14:
        return "B"
    if points >= 10:
        return "C"
    return "D" if points >= 5 else "F"


def interleave(left: list[int], right: list[int]) -> list[int]:
    """One number of each list in turn, left first, and what is left of the longer one."""
    mixed = []
    for index in range(max(len(left), len(right))):
        if index < len(left):
            mixed.append(left[index])
        if index < len(right):
            mixed.append(right[index])
    return mixed


def most_common(text: str) -> str:
    """The letter that occurs most often, the first in the alphabet of several; empty for an empty text."""
    best = ""
    for letter in sorted(text):
        if best == "" or text.count(letter) > text.count(best):
            best = letter
    return best


def triangle(number: int) -> int:
    """The sum of all whole numbers from 1 to the number, 0 for numbers below 1."""
    total = 0
    for each in range(1, number + 1):
        total += each
    return total


def digits_sum(number: int) -> int:
    """The sum of the decimal digits, the sign apart."""
    rest = abs(number)
    total = 0
    while rest > 0:
        total += rest % 10
        rest = rest // 10
    return total


def second_largest(numbers: list[int]) -> int:
    """The second largest of the different numbers, 0 where there are fewer than two."""
    different = sorted(set(numbers))
    if len(different) < 2:
        return 0
    return different[-2]


def is_sorted(numbers: list[int]) -> bool:
    """Whether no number is below the one before it."""
    for index in range(1, len(numbers)):
        if numbers[index] < numbers[index - 1]:
            return False
    return True


def title_words(text: str) -> str:
    """The words with a capital in front and small letters after it, one space between them."""
    return " ".join(word[:1].upper() + word[1:].lower() for word in text.split())


def bounded_sum(numbers: list[int], low: int, high: int) -> int:
    """The sum of the numbers that are at least low and below high."""
    total = 0
    for number in numbers:
        if number >= low and number < high:
            total += number
    return total


def pair_count(numbers: list[int], total: int) -> int:
    """How many pairs of places hold numbers that add up to the total."""
    count = 0
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            if numbers[i] + numbers[j] == total:
                count += 1
    return count


def caesar(text: str, shift: int) -> str:
    """The small letters moved along the alphabet, around its end; everything else as it is."""
    moved = ""
    for letter in text:
        if "a" <= letter <= "z":
            moved += chr((ord(letter) - 97 + shift) % 26 + 97)
        else:
            moved += letter
    return moved


def gaps(numbers: list[int]) -> list[int]:
    """The numbers that lie between the smallest and the largest and do not occur."""
    if len(numbers) == 0:
        return []
    return [number for number in range(min(numbers) + 1, max(numbers)) if number not in numbers]
