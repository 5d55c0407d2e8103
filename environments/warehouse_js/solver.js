'use strict'; // A reference player: reads what the world shows, as a model would, and says the next action.

const cell = (text) => text.split(',').map(Number);

// The next action for an observation's text, or `null` when everything is delivered.
function solve(shown) {
  const at = cell(shown.match(/robot at (\d,\d)/)[1]);
  const carried = shown.match(/ carried, for (\d,\d)/);
  const waiting = shown.match(/ at (\d,\d), for \d,\d/);
  if (!carried && !waiting) return null;
  const goal = cell((carried ?? waiting)[1]);
  const [east, south] = goal.map((n, axis) => n - at[axis]);
  if (east) return `move ${east > 0 ? 'east' : 'west'} ${Math.abs(east)}`;
  if (south) return `move ${south > 0 ? 'south' : 'north'} ${Math.abs(south)}`;
  return carried ? 'put' : 'pick';
}

module.exports = { solve };
