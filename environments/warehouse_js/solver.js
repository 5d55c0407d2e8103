'use strict'; // A reference player: reads what the world shows, as a model would, and says the next action.

// The next action for an observation's text, or `null` when everything is delivered.
function solve(shown) {
  const carried = shown.match(/ carried, for \d,\d, (here|(\d) (\w+))/);
  const next = carried ?? shown.match(/ at \d,\d, (here|(\d) (\w+))/);
  if (!next) return null;
  const [, way, steps, direction] = next;
  if (way !== 'here') return `move ${direction} ${steps}`;
  return carried ? 'put' : 'pick';
}

module.exports = { solve };
