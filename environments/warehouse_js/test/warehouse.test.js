'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { solve } = require('../solver');
const { Warehouse } = require('../warehouse');

const act = (world, said) => {
  const [name, direction, steps = '1'] = said.split(' ');
  return world.act(name, { direction, steps: Number(steps) });
};

test('the reference player delivers every order, well within the actions it has', () => {
  for (let seed = 0; seed < 300; seed += 1) {
    const world = new Warehouse(`t/${seed % 7}`, seed, 1 + (seed % 4));
    for (let said; (said = solve(world.show())); ) assert.equal(act(world, said), '', world.show());
    assert.ok(world.solved && world.left > 0);
  }
});

test('the same task and seed give the same world, another seed or task another one', () => {
  const shown = (id, seed) => new Warehouse(id, seed, 3).show();
  assert.equal(shown('a', 7), shown('a', 7));
  assert.notEqual(shown('a', 7), shown('a', 8));
  assert.notEqual(shown('a', 7), shown('b', 7));
  const many = new Set(Array.from({ length: 500 }, (_, seed) => shown('a', seed)));
  assert.ok(many.size > 490, `only ${many.size} of 500 worlds differ`);
});

test('a robot neither leaves the floor nor teleports, carries two things or delivers to the wrong bay', () => {
  const world = new Warehouse('t', 1, 2);
  const before = world.show().replace(/\d+ actions left/, '');
  for (const said of ['move north 9', 'move east 1.5', 'move west -1', 'move up', 'fly', 'put', 'move __proto__', '']) {
    assert.notEqual(act(world, said), '', said);
  }
  assert.equal(world.show().replace(/\d+ actions left/, ''), before);
  assert.equal(world.left, 24 - 8);
});

test('arguments of any kind are answered with what is wrong', () => {
  const odd = { toString: 1, valueOf: 1 };
  const world = new Warehouse('t', 1, 2);
  for (const given of [undefined, 5, [], {}, { direction: odd }, { direction: 'east', steps: odd }, { steps: '1' }]) {
    assert.match(world.act('move', given), /move needs/);
  }
});

test('worlds share nothing', () => {
  const [one, two] = [new Warehouse('t', 1, 2), new Warehouse('t', 1, 2)];
  const before = two.show();
  for (let said; (said = solve(one.show())); ) act(one, said);
  assert.equal(two.show(), before);
});
