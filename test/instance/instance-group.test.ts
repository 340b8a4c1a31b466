import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { InstanceGroup } from '../../src/instance/instance-group.js';
import type { LoadMessage, RunMessage } from '../../src/instance/messages.js';
import type { Gated } from '../fixtures/gated-worker.js';
import { until } from '../support/until.js';

interface Watched {
  readonly group: InstanceGroup;
  /** What the group told its owner, in order. */
  readonly events: string[];
}

function openGroup(t: TestContext, size: number, cardId?: number): Watched {
  gates = [];
  const events: string[] = [];
  const group = new InstanceGroup({
    device: { name: 'cpu', provider: 'cpu' },
    cardId,
    size,
    workerFile: fileURLToPath(new URL('../fixtures/gated-worker.js', import.meta.url)),
    events: {
      onIdle: () => undefined,
      onInstanceLost: (_group, index) => events.push(`lost ${index}`),
      onInstanceReplaced: (_group, index, failures) =>
        events.push(`replaced ${index} ${failures.join()}`.trim()),
    },
  });
  t.after(() => {
    // Closing waits for what runs, also after a test that failed half way.
    for (const gate of gates) gate.open();
    return group.close();
  });
  return { group, events };
}

/** The gates of the test that runs. */
let gates: Gate[] = [];

/** A gate that tasks wait at; it is open or shut for every task that carries `at`. */
class Gate {
  constructor() {
    gates.push(this);
  }

  readonly at = { gate: new Int32Array(new SharedArrayBuffer(8)) };

  open(): void {
    Atomics.store(this.at.gate, 0, 1);
  }

  shut(): void {
    Atomics.store(this.at.gate, 0, 0);
  }

  /** Tasks that have come to it. */
  get arrivals(): number {
    return Atomics.load(this.at.gate, 1);
  }
}

const loadOf = (versionId: number, gated: Gated = {}): LoadMessage =>
  ({ versionId, device: { name: 'cpu', provider: 'cpu' }, ...gated }) as never;
const runOf = (gated: Gated = {}): RunMessage => ({ versionId: 1, ...gated }) as never;

/** What the instance that takes the next run has loaded. */
async function loadedIn(group: InstanceGroup): Promise<readonly number[]> {
  return (await group.run(runOf())) as never;
}

test('a version is loaded in every instance, and unloaded from every one', async (t) => {
  const { group } = openGroup(t, 3);
  assert.equal((await group.load(loadOf(1))).length, 3);
  const gate = new Gate();
  const runs = [0, 1, 2].map(() => group.run(runOf(gate.at)));
  assert.equal(group.busy, 3);
  assert.equal(group.hasIdle, false);
  gate.open();
  for (const run of runs) assert.deepEqual(await run, [1]);
  assert.equal(group.busy, 0);
  await group.unload(1);
  assert.deepEqual(await loadedIn(group), []);
});

test('a load waits for the run of a busy instance, and goes before the next one', async (t) => {
  const { group } = openGroup(t, 1);
  const gate = new Gate();
  const run = group.run(runOf(gate.at));
  const load = group.load(loadOf(2));
  assert.equal(group.hasIdle, false);
  gate.open();
  await run;
  await load;
  assert.deepEqual(await loadedIn(group), [2]);
});

test('a thread that dies fails its own run alone, is replaced and loads all that the group holds', async (t) => {
  const { group, events } = openGroup(t, 2);
  await group.load(loadOf(1));
  await group.load(loadOf(2));
  const gate = new Gate();
  const dying = group.run(runOf({ dies: true }));
  const other = group.run(runOf(gate.at));
  await assert.rejects(dying, { code: 'SRV_WORKER_DIED', message: /an error that nobody catches/ });
  await until('the thread is replaced', () => events.includes('replaced 1') || events.includes('replaced 0'));
  gate.open();
  assert.deepEqual(await other, [1, 2]);
  assert.deepEqual(events.length, 2);
  const both = [loadedIn(group), loadedIn(group)];
  assert.equal(group.hasIdle, false);
  for (const loaded of await Promise.all(both)) assert.deepEqual(loaded, [1, 2]);
});

test('an instance takes no run before all its versions are loaded again', async (t) => {
  const { group, events } = openGroup(t, 1);
  const gate = new Gate();
  gate.open();
  await group.load(loadOf(1, gate.at));
  await group.load(loadOf(2));
  gate.shut();
  await assert.rejects(group.run(runOf({ dies: true })), { code: 'SRV_WORKER_DIED' });
  await until('the thread is lost', () => events.includes('lost 0'));
  assert.equal(group.hasIdle, false);
  gate.open();
  await until('the thread is replaced', () => events.includes('replaced 0'));
  assert.equal(group.hasIdle, true);
  assert.deepEqual(await loadedIn(group), [1, 2]);
});

test('a load that comes while a thread is replaced reaches it too, and costs no other instance', async (t) => {
  const { group, events } = openGroup(t, 3);
  const gate = new Gate();
  gate.open();
  await group.load(loadOf(1, gate.at));
  gate.shut();
  await assert.rejects(group.run(runOf({ dies: true })), { code: 'SRV_WORKER_DIED' });
  await until('the thread is lost', () => events.length === 1);
  await until('the new thread waits at the gate with the load of version 1', () => gate.arrivals === 4);
  const load = group.load(loadOf(2));
  const unload = group.unload(3);
  gate.open();
  await Promise.all([load, unload]);
  await until('the thread is replaced', () => events.length === 2);
  const hold = new Gate();
  const runs = [0, 1, 2].map(() => group.run(runOf(hold.at)));
  assert.equal(group.busy, 3, 'three instances still run three batches');
  assert.equal(group.hasIdle, false);
  hold.open();
  for (const loaded of await Promise.all(runs)) {
    assert.deepEqual([...(loaded as never as number[])].toSorted(), [1, 2]);
  }
  assert.equal(group.busy, 0);
});

test('a thread that dies while it loads again is replaced once more', async (t) => {
  const { group, events } = openGroup(t, 2);
  await group.load(loadOf(1));
  for (let round = 1; round <= 3; round++) {
    await assert.rejects(group.run(runOf({ dies: true })), { code: 'SRV_WORKER_DIED' });
    await until('it is replaced', () => events.length === 2 * round);
  }
  const hold = new Gate();
  const runs = [group.run(runOf(hold.at)), group.run(runOf(hold.at))];
  hold.open();
  for (const loaded of await Promise.all(runs)) assert.deepEqual(loaded, [1]);
});

test('closing waits for what runs', async (t) => {
  const { group } = openGroup(t, 2);
  const gate = new Gate();
  const run = group.run(runOf(gate.at));
  let isClosed = false;
  const closed = group.close().then(() => {
    isClosed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isClosed, false);
  gate.open();
  assert.deepEqual(await run, []);
  await closed;
  await group.close();
});

test('a device that is marked lost gives no more idle instances', async (t) => {
  const { group } = openGroup(t, 1);
  assert.equal(group.hasIdle, true);
  group.markLost('it fell off the bus');
  group.markLost('another reason');
  assert.equal(group.hasIdle, false);
  assert.equal(group.lostReason, 'it fell off the bus');
});

/** What every instance has loaded, sorted. */
async function loadedInAll(group: InstanceGroup): Promise<readonly number[][]> {
  const hold = new Gate();
  const runs = Array.from({ length: group.size }, () => group.run(runOf(hold.at)));
  hold.open();
  return (await Promise.all(runs)).map((loaded) => [...(loaded as never as number[])].toSorted());
}

test('a version that is loaded behind the others holds no instance up, and comes to all of them', async (t) => {
  const { group, events } = openGroup(t, 2);
  await group.load(loadOf(1));
  const warming: (() => void)[] = [];
  const warmUp = (): Promise<undefined> => new Promise((resolve) => warming.push(() => resolve(undefined)));
  const load = group.load(loadOf(2), { how: 'behind', warmUp });
  for (const place of [1, 2]) {
    await until(`the spare warms up for place ${place}`, () => warming.length === place);
    assert.equal(group.busy, 0);
    const loaded = await loadedInAll(group);
    assert.equal(loaded.filter((versions) => versions.includes(2)).length, place - 1);
    assert.ok(loaded.every((versions) => versions.includes(1)));
    warming[place - 1]!();
  }
  assert.equal((await load).length, 2);
  assert.deepEqual(await loadedInAll(group), [
    [1, 2],
    [1, 2],
  ]);
  await group.unload(1);
  const next = group.load(loadOf(3), { how: 'behind' });
  await until('the spare has caught up with what it lacks', () => warming.length === 3);
  warming[2]!();
  await next;
  assert.deepEqual(await loadedInAll(group), [
    [2, 3],
    [2, 3],
  ]);
  assert.deepEqual(events, []);
});

test('a spare takes no place before it has what came while it loaded', async (t) => {
  const { group } = openGroup(t, 2);
  const gate = new Gate();
  const behind = group.load(loadOf(1, gate.at), { how: 'behind' });
  await until('the spare waits at the gate', () => gate.arrivals === 1);
  const inPlace = group.load(loadOf(2));
  gate.open();
  await Promise.all([behind, inPlace]);
  assert.deepEqual(await loadedInAll(group), [
    [1, 2],
    [1, 2],
  ]);
});

test('a version that does not load behind the others is gone from all, and they never stood still', async (t) => {
  const { group, events } = openGroup(t, 2);
  await group.load(loadOf(1));
  const gate = new Gate();
  gate.open();
  const load = group.load(loadOf(2, { ...gate.at, failsFrom: 2 }), { how: 'behind' });
  await assert.rejects(load, { code: 'SRV_MODEL_LOAD_FAILED' });
  assert.equal(gate.arrivals, 2);
  assert.deepEqual(await loadedInAll(group), [[1], [1]]);
  await assert.rejects(group.load(loadOf(3, { dies: true }), { how: 'behind' }), { code: 'SRV_WORKER_DIED' });
  assert.deepEqual(await loadedInAll(group), [[1], [1]]);
  await group.load(loadOf(4), { how: 'behind' });
  assert.deepEqual(await loadedInAll(group), [
    [1, 4],
    [1, 4],
  ]);
  assert.deepEqual(events, [], 'no instance was lost with the spare');
});

test('every instance is warmed up before it takes a batch, the one in the place of a dead one too', async (t) => {
  const { group, events } = openGroup(t, 2);
  for (const [at, how] of (['inPlace', 'behind'] as const).entries()) {
    let warmUps = 0;
    const gate = new Gate();
    const load = group.load(loadOf(at + 1), {
      how,
      warmUp: async (run) => {
        warmUps += 1;
        await run(runOf(gate.at));
      },
    });
    await until('a warm-up runs', () => gate.arrivals > 0);
    assert.equal(group.hasIdle, how === 'behind');
    gate.open();
    await load;
    assert.equal(warmUps, 2);
    await assert.rejects(group.run(runOf({ dies: true })), { code: 'SRV_WORKER_DIED' });
    await until('the thread is replaced', () => events.length === 2 * (at + 1));
    assert.equal(warmUps, 3);
  }
});

test('batches of others go between those that a warm-up leaves to the end, and the load waits for all of them', async (t) => {
  const { group, events } = openGroup(t, 1);
  const first = new Gate();
  const second = new Gate();
  second.open();
  let rests = 0;
  const load = group.load(loadOf(1), {
    warmUp: async () => async (run) => {
      rests += 1;
      await run(runOf(first.at));
      await until('another batch is taken', () => !group.hasIdle);
      await run(runOf(second.at));
    },
  });
  await until('the first one runs', () => first.arrivals === 1);
  assert.equal(group.hasIdle, false);
  first.open();
  await until('the instance is free between two', () => group.hasIdle);
  const other = new Gate();
  const between = group.run(runOf(other.at));
  await until('the batch of others runs', () => other.arrivals === 1);
  assert.equal(second.arrivals, 0, 'the second one waits its turn');
  other.open();
  await between;
  await load;
  assert.equal(second.arrivals, 1);
  // What takes the place of a dead thread takes no batch before it has run everything.
  await assert.rejects(group.run(runOf({ dies: true })), { code: 'SRV_WORKER_DIED' });
  await until('the new thread has run the first one', () => first.arrivals === 2);
  await until('it is all run', () => second.arrivals === 2 && events.length === 2);
  assert.deepEqual([rests, events], [2, ['lost 0', 'replaced 0']]);
});

test('a batch that fails at the end of a warm-up fails the load', async (t) => {
  const { group } = openGroup(t, 2);
  for (const how of ['inPlace', 'behind'] as const) {
    const warmUp = async () => () => Promise.reject(new Error('too cold'));
    await assert.rejects(group.load(loadOf(1), { how, warmUp }), /too cold/);
    assert.deepEqual(await loadedInAll(group), [[], []]);
  }
});

test('a warm-up that fails is a load that fails', async (t) => {
  const { group } = openGroup(t, 2);
  for (const how of ['inPlace', 'behind'] as const) {
    const load = group.load(loadOf(1), { how, warmUp: () => Promise.reject(new Error('too cold')) });
    await assert.rejects(load, /too cold/);
    assert.deepEqual(await loadedInAll(group), [[], []]);
  }
});

test('where a spare cannot open what the others hold, a version is loaded in place', async (t) => {
  const { group } = openGroup(t, 2);
  const gate = new Gate();
  gate.open();
  await group.load(loadOf(1, { ...gate.at, failsFrom: 3 }));
  await group.load(loadOf(2), { how: 'behind' });
  assert.deepEqual(await loadedInAll(group), [
    [1, 2],
    [1, 2],
  ]);
});

for (const [place, cardId, opened] of [
  ['the processor', undefined, 2],
  ['a card', 0, 3],
] as const) {
  test(`between loads the spare of ${place} keeps ${cardId === undefined ? 'what it has' : 'nothing'}`, async (t) => {
    const { group } = openGroup(t, 1, cardId);
    let times = 0;
    const warmUp = async (): Promise<undefined> => {
      times += 1;
    };
    await group.load(loadOf(1), { warmUp });
    await group.load(loadOf(2), { how: 'behind' });
    await group.load(loadOf(3), { how: 'behind' });
    assert.equal(times, opened);
    assert.deepEqual(await loadedInAll(group), [[1, 2, 3]]);
  });
}
