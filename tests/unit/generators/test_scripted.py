from rlforge.generators.scripted import ScriptedGenerator
from rlforge.types import FinishReason, GenerateRequest, Sampling


def request(seed: int, limit: int = 4) -> GenerateRequest:
    return GenerateRequest(prompt_ids=(1, 2), sampling=Sampling(max_new_tokens=limit), seed=seed)


async def test_replies_come_from_the_list_and_are_cut_at_the_limit() -> None:
    generator = ScriptedGenerator(ScriptedGenerator.Config(replies=((5, 6, 7),)), model="", seed=0, run_id="unit")
    await generator.start()
    whole, cut = await generator.generate(request(0)), await generator.generate(request(0, limit=2))
    assert (whole.token_ids, whole.finish_reason) == ((5, 6, 7), FinishReason.STOP)
    assert (cut.token_ids, cut.finish_reason) == ((5, 6), FinishReason.LENGTH)


async def test_a_reply_is_a_pure_function_of_prompt_and_seed() -> None:
    first, second = (
        ScriptedGenerator(ScriptedGenerator.Config(), model="", seed=seed, run_id="unit") for seed in (0, 1)
    )
    await first.start()
    await second.start()
    assert [await first.generate(request(seed)) for seed in range(9)] == [
        await second.generate(request(seed)) for seed in range(9)
    ]
