'use strict'; // The warehouse behind rlforge's protocol: every stream of Interact is a world.

const { createHash, timingSafeEqual } = require('node:crypto');
const grpc = require('@grpc/grpc-js'), loader = require('@grpc/proto-loader'), { Warehouse } = require('./warehouse');

const { PORT = '50061', HOST = '127.0.0.1', WORLDS = '256', TOKEN = '' } = process.env;
const includeDirs = [process.env.PROTOS ?? `${__dirname}/../../protos`];
const load = { includeDirs, keepCase: true, defaults: true, oneofs: true };
const { Environment } = grpc.loadPackageDefinition(loader.loadSync('rlforge/v1/environment.proto', load)).rlforge.v1;
const SPLITS = { train: 1000, test: 100 }, ROLES = ['system', 'user', 'assistant', 'tool'];
const RULES = 'A robot works in a warehouse of 5 by 5 cells, written x,y; north is towards y = 0. Carry each item to '
  + 'the cell it is for, one item at a time. Reply with one action: move DIRECTION STEPS, pick, or put.';
const DIRECTION = { type: 'string', enum: ['north', 'south', 'east', 'west'] };
let live = 0, draining = false;

const struct = (o) => ({ fields: Object.fromEntries(Object.entries(o).map(([name, item]) => [name, value(item)])) });
const value = (v) => (Array.isArray(v) ? { listValue: { values: v.map(value) } }
  : typeof v === 'object' ? { structValue: struct(v) } : { [`${typeof v}Value`]: v });
const message = (role, text, more) => ({ role, content: [{ text }], ...more });
const tool = (name, description, properties = {}, required = []) => (
  { name, description, parameters: struct({ type: 'object', properties, required }) });
const task = (split, n) => (
  { id: `warehouse/${split}/${n}`, messages: [message('system', RULES)], info: struct({ orders: 1 + (n % 3) }) });

const UNAUTHENTICATED = { code: grpc.status.UNAUTHENTICATED, details: 'the bearer token is missing or wrong' };
const digest = (text) => createHash('sha256').update(String(text)).digest();
const barred = (call) => TOKEN !== '' // digests have one length, and comparing them takes one time
  && !timingSafeEqual(digest(`Bearer ${TOKEN}`), digest(call.metadata.get('authorization')[0]));

function describe(call, answer) {
  if (barred(call)) return answer(UNAUTHENTICATED);
  return answer(null, {
    name: 'warehouse_js', version: '1', protocol_version: 1, max_worlds: Number(WORLDS), deterministic: true,
    splits: Object.entries(SPLITS).map(([name, tasks]) => ({ name, tasks })),
    tools: [tool('move', 'Move the robot.', { direction: DIRECTION, steps: { type: 'integer' } }, ['direction']),
      tool('pick', 'Pick up what lies here.'), tool('put', 'Hand over what the robot carries.')],
  });
}

function listTasks(call) {
  const { split, offset, limit } = call.request;
  const missing = { code: grpc.status.NOT_FOUND, details: `there is no split '${split}'` };
  if (barred(call)) return call.emit('error', UNAUTHENTICATED);
  if (!Object.hasOwn(SPLITS, split)) return call.emit('error', missing);
  const end = Math.min(SPLITS[split], limit ? offset + limit : Infinity);
  for (let n = offset; n < end; n += 1) call.write(task(split, n));
  return call.end();
}

// What the model wants done: calls of tools, or words.
function wishes(reply) {
  const [name, direction, steps = '1'] = reply.content.map((part) => part.text ?? '').join('').trim().split(/\s+/);
  if (!reply.tool_calls.length) return [{ role: 'user', name, given: { direction, steps: Number(steps) } }];
  return reply.tool_calls.map((call) => {
    let given; // broken JSON stays undefined
    try { given = JSON.parse(call.arguments || '{}') ?? undefined; } catch { /* the model will be told */ }
    return { role: 'tool', tool_call_id: call.id, name: given ? call.name : '', given };
  });
}

function play(world, reply) {
  const before = world.delivered;
  let mistakes = 0;
  const messages = wishes(reply).map(({ role, tool_call_id, name, given }) => {
    const wrong = world.act(name, given);
    mistakes += wrong ? 1 : 0;
    return message(role, wrong ? `${wrong}\n${world.show()}` : world.show(), { tool_call_id });
  });
  const reward = (world.delivered - before) / world.orders.length, terminated = world.solved;
  return { messages, reward, components: { mistakes }, terminated, truncated: !terminated && world.left <= 0 };
}

function interact(call) {
  let world, last, over = false, clock;
  const free = () => { live -= world ? 1 : 0; world = undefined; over = true; clearTimeout(clock); };
  const fail = (code, details, metadata) => {
    free();
    call.emit('error', { code: grpc.status[code], details, metadata });
  };
  const begin = ({ task: { id, info }, seed, lifetime_s }) => {
    const busy = new grpc.Metadata();
    busy.set('retry-after-ms', '500');
    if (live >= Number(WORLDS)) return fail('RESOURCE_EXHAUSTED', `all ${WORLDS} worlds are in use`, busy);
    live += 1;
    world = new Warehouse(id, seed, Math.min(Math.max(Math.trunc(info?.fields?.orders?.numberValue) || 2, 1), 4));
    if (lifetime_s) clock = setTimeout(fail, lifetime_s * 1000, 'DEADLINE_EXCEEDED', `it lived for ${lifetime_s} s`);
    return { messages: [message('user', world.show())] };
  };
  if (barred(call)) return call.emit('error', UNAUTHENTICATED);
  call.on('data', (action) => {
    if (over) return;
    if (last?.step === action.step) return call.write(last);
    const said = last ? action.message && [action.message] : action.start?.task?.messages;
    if (!said?.every(({ role }) => ROLES.includes(role))) return fail('INVALID_ARGUMENT', 'a task first, then replies');
    if (action.step !== (last ? last.step + 1 : 0)) return fail('FAILED_PRECONDITION', 'a step is out of order');
    const shown = last ? play(world, action.message) : begin(action.start);
    if (over) return;
    last = { step: action.step, ...shown };
    call.write(last);
    if (shown.terminated || shown.truncated) { free(); call.end(); }
  });
  call.on('end', () => { if (!over) { free(); call.end(); } });
  return call.on('cancelled', free);
}

const raw = { requestSerialize: Buffer.from, requestDeserialize: Buffer.from, responseSerialize: Buffer.from };
const health = { Check: { path: '/grpc.health.v1.Health/Check', requestStream: false, responseStream: false, ...raw } };
const check = (call, answer) => answer(null, [8, draining ? 2 : 1]); // HealthCheckResponse: NOT_SERVING or SERVING
const server = new grpc.Server();
server.addService(Environment.service, { Describe: describe, ListTasks: listTasks, Interact: interact });
server.addService(health, { Check: check });
server.bindAsync(`${HOST}:${PORT}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`listening on grpc://${HOST}:${port}`);
});
process.on('SIGTERM', () => {
  draining = true;
  server.tryShutdown(() => process.exit());
  setTimeout(() => process.exit(), 10000).unref();
});
