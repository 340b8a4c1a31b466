/**
 * Opens clones of a prepared model one after the other in this process and times each: what a server's instances
 * do, without the server. Arguments: model file, cache directory, number of clones.
 */
import { InferenceSession } from 'onnxruntime-node';
import { Preparer } from '../src/model/preparer.js';
import { engineOptions } from './contestants/engine-options.js';
import type { CloneLoads } from './scenarios/shared-weights.js';

const [path, cacheDirectory, count] = process.argv.slice(2);
const preparer = new Preparer({ cacheDirectory: cacheDirectory! });
const model = await preparer.prepare({ path: path! });
await preparer.close();

const extra = nested({ 'session.intra_op.allow_spinning': '0', ...model.sessionExtra });
const loadMs: number[] = [];
const clones: InferenceSession[] = [];
for (let clone = 0; clone < Number(count); clone++) {
  const startedAt = performance.now();
  clones.push(await InferenceSession.create(model.file, { ...engineOptions, extra }));
  loadMs.push(performance.now() - startedAt);
}
for (const clone of clones) await clone.release();

const figures: CloneLoads = { form: model.form, reason: model.formReason, loadMs };
process.stdout.write(`${JSON.stringify(figures)}\n`);

/** Dotted keys as nested objects, which is how the engine's Node package takes them. */
function nested(entries: Readonly<Record<string, string>>): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entries)) {
    const parts = key.split('.');
    let at = root;
    for (const part of parts.slice(0, -1)) {
      at[part] ??= {};
      at = at[part] as Record<string, unknown>;
    }
    at[parts.at(-1)!] = value;
  }
  return root;
}
