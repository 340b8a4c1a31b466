/**
 * Splits a model in a process of its own.
 *
 * Arguments: model file, output directory, and `hang` to stop for ever once the rows are written.
 */

import { sparseTools } from '../../../src/model/split/sparse-tools.js';
import { splitModel } from '../../../src/model/split/split-model.js';
import type { SplitTools } from '../../../src/model/split/split-tools.js';
import { splitDefaults } from './split-fixtures.js';

const [modelFile = '', directory = '', mode] = process.argv.slice(2);

const hangingTools: SplitTools = {
  ...sparseTools,
  async writeTable(task) {
    await sparseTools.writeTable(task);
    process.stdout.write('written\n');
    await new Promise<never>(() => setInterval(() => {}, 1000));
  },
};

const tools = mode === 'hang' ? hangingTools : sparseTools;
const report = await splitModel({ ...splitDefaults, minBytes: 1 << 20, modelFile, directory }, tools);
process.stdout.write(`${JSON.stringify(report)}\n`);
