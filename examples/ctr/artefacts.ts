/** Where the files of the sample lie. */
import { fileURLToPath } from 'node:url';

/** The package's root, seen from the compiled examples. */
export const packageRoot = fileURLToPath(new URL('../../../', import.meta.url));
/** The model's directory, which is what `onnx-serving serve --model` takes. */
export const modelDirectory = fileURLToPath(new URL('../../../examples/ctr/', import.meta.url));
/** The dense network. */
export const modelFile = `${modelDirectory}model.onnx`;
/** The rows of the table, packed. */
export const rowsFile = `${modelDirectory}rows.bin`;
/** The table that `prepareTable` builds of them. */
export const tableDirectory = `${modelDirectory}table`;
