import { setTimeout as sleep } from 'node:timers/promises';
import { encodeBody } from '../../src/loadtest/request-body.js';
import { startsOf, withHttpContestants } from '../http-contestants.js';
import { startLoopProbe } from '../loop-probe.js';
import { median } from '../median.js';
import { mlpAnswer, mlpInputs, mlpTensors } from '../mlp.js';
import type { Scenario } from '../scenario.js';

const rows = 2500;
const lag = 'event loop held by 1 M floats';

/** One body of a million floats: how long does everybody else wait? */
export const largeBody: Scenario = {
  name: 'large-body',
  question: 'How long does a JSON body of a million floats hold the event loop of the server?',
  bars: [{ name: lag, unit: 'ms', limit: { atMost: 50 } }],
  run: ({ rounds, log }) =>
    withHttpContestants(startsOf(['naive', 'ours']), log, async (contestants) => {
      const tensors = mlpTensors(1, rows)[0]!;
      const { bytes } = encodeBody(tensors, 'json');
      const expected = mlpAnswer((tensors.x!.data as Float32Array).subarray(0, mlpInputs));
      const invalid: string[] = [];
      const found: Record<string, { quietMs: number; heldMs: number[] }> = {};
      for (const { server } of contestants) {
        const probe = startLoopProbe(server.url);
        try {
          await sleep(500);
          probe.longestWaitMs();
          await sleep(1000);
          const quietMs = probe.longestWaitMs();
          const heldMs: number[] = [];
          for (let round = 0; round < rounds; round++) {
            const wrong = await post(`${server.url}/v2/models/mlp/infer`, bytes, expected);
            if (wrong) invalid.push(`${server.name}: ${wrong}`);
            heldMs.push(probe.longestWaitMs());
            await sleep(200);
            probe.longestWaitMs();
          }
          found[server.name] = { quietMs, heldMs };
        } finally {
          probe.stop();
        }
      }
      return {
        measured: found.ours ? { [lag]: median(found.ours.heldMs) } : {},
        invalid,
        notes: [
          `${(bytes.length / 1e6).toFixed(1)} MB of JSON; longest wait of a GET /v2/health/live sent every 5 ms`,
          ...Object.entries(found).map(
            ([name, { quietMs, heldMs }]) =>
              `${name}: median ${median(heldMs).toFixed(0)} ms, worst ${Math.max(...heldMs).toFixed(0)} ms, ` +
              `without the body ${quietMs.toFixed(0)} ms`,
          ),
        ],
        figures: found,
      };
    }),
};

async function post(url: string, body: Buffer, expected: number): Promise<string | undefined> {
  const headers = { 'content-type': 'application/json' };
  const reply = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(60_000) });
  const text = await reply.text();
  if (reply.status !== 200) return `status ${reply.status}: ${text.slice(0, 200)}`;
  const [output] = (JSON.parse(text) as { outputs: { data: number[] }[] }).outputs;
  if (output?.data.length !== rows) return `${output?.data.length} rows came back; expected ${rows}`;
  const isClose = Math.abs(output.data[0]! - expected) <= 1e-4 * Math.max(1, Math.abs(expected));
  return isClose ? undefined : `answered ${output.data[0]}; expected ${expected}`;
}
