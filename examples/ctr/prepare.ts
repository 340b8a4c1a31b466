/**
 * Builds the sample's table where it is missing; `npm start` does it before it serves.
 *
 *   node dist/examples/ctr/prepare.js
 */
import { prepareTable } from './sample-table.js';

try {
  const seconds = await prepareTable();
  if (seconds !== undefined) {
    process.stdout.write(
      `Built examples/ctr/table, 1000001 rows of 16 floats, in ${seconds.toFixed(1)} s with "onnx-serving table build".\n`,
    );
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
