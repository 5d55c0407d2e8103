'use strict'; // A small warehouse: a robot carries goods from where they lie to the bays that ordered them.

const SIZE = 5, GOODS = ['lamp', 'chair', 'kettle', 'drum'], BAYS = { A: [0, 0], B: [4, 4] };
const WAYS = { north: [0, -1], south: [0, 1], east: [1, 0], west: [-1, 0] };
const same = (one, other) => `${one}` === `${other}`;

// Numbers in [0, 1) from a text and a seed, always the same ones: FNV-1a makes the state, mulberry32 goes on from it.
function dice(text, seed) {
  let state = [...text].reduce((hash, c) => Math.imul(hash ^ c.codePointAt(0), 16777619), 2166136261 ^ seed);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Warehouse {
  constructor(id, seed, orders) {
    const roll = dice(id, seed), draw = (list) => list.splice(Math.floor(roll() * list.length), 1)[0];
    const cells = Array.from({ length: SIZE * SIZE }, (_, n) => [n % SIZE, Math.floor(n / SIZE)]);
    const free = cells.filter((cell) => !Object.values(BAYS).some((bay) => same(bay, cell))), goods = [...GOODS];
    Object.assign(this, { at: draw(free), held: null, left: 12 * orders });
    this.orders = Array.from({ length: orders }, () => (
      { item: draw(goods), cell: draw(free), bay: roll() < 0.5 ? 'A' : 'B', done: false }));
  }

  get delivered() { return this.orders.filter((order) => order.done).length; }

  get solved() { return this.delivered === this.orders.length; }

  // Carries out one action and returns what was wrong with it, if anything was: that costs an action, too.
  act(name, { direction, steps = 1 } = {}) {
    this.left -= 1;
    if (name === 'move') {
      const way = typeof direction === 'string' && Object.hasOwn(WAYS, direction) && WAYS[direction];
      if (!way || !Number.isInteger(steps) || steps < 1) return 'move needs a direction, and whole steps';
      const to = this.at.map((n, axis) => n + way[axis] * steps);
      if (to.some((n) => n < 0 || n >= SIZE)) return 'there is a wall';
      this.at = to;
    } else if (name === 'pick') {
      if (this.held) return 'the robot carries something already';
      this.held = this.orders.find((order) => !order.done && same(order.cell, this.at)) ?? null;
      if (!this.held) return 'there is nothing to pick here';
    } else if (name === 'put') {
      if (!this.held || !same(this.at, BAYS[this.held.bay])) return 'this is not the bay of what the robot carries';
      this.held.done = true;
      this.held = null;
    } else return 'the actions are: move DIRECTION STEPS, pick, put';
    return '';
  }

  // How to get from where the robot stands to a cell, as `2 east 3 north` or `here`.
  way(to) {
    const [east, south] = to.map((n, axis) => n - this.at[axis]);
    const parts = [[east, 'east'], [-east, 'west'], [south, 'south'], [-south, 'north']].filter(([steps]) => steps > 0);
    return parts.map((part) => part.join(' ')).join(' ') || 'here';
  }

  show() {
    const where = ({ cell, bay }, carried) => (carried
      ? `carried, for ${BAYS[bay]}, ${this.way(BAYS[bay])}` : `at ${cell}, ${this.way(cell)}, for ${BAYS[bay]}`);
    const orders = this.orders.map((o) => `${o.item} ${o.done ? 'delivered' : where(o, o === this.held)}`);
    return [`robot at ${this.at}`, ...orders, `${this.left} actions left`].join('; ');
  }
}

module.exports = { Warehouse, BAYS };
