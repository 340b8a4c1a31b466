/** Loads the C++ addon; the files beside this one are its typed functions, the same on the main thread and in workers. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, messageOf, ServingError } from '../errors.js';

interface Initialised {
  init(makeError: (code: ErrorCode, message: string) => ServingError): void;
}

// From dist/src/native/ to the root of the package.
const addonUrl = new URL('../../../build/Release/onnx_serving.node', import.meta.url);

let loaded: Initialised | undefined;

/**
 * The addon's functions, of which each file declares its own. Loaded by the first call.
 *
 * @throws SRV_INTERNAL when it was not built
 */
export function addon<Functions>(): Functions {
  loaded ??= load();
  return loaded as Functions;
}

function load(): Initialised {
  const path = fileURLToPath(addonUrl);
  let exports: Initialised;
  try {
    exports = createRequire(import.meta.url)(path);
  } catch (cause) {
    throw new ServingError(
      'SRV_INTERNAL',
      `the native addon cannot be loaded from ${path}: ${messageOf(cause)}; build it with "npm run build"`,
      { cause },
    );
  }
  exports.init((code, message) => new ServingError(code, message));
  return exports;
}
