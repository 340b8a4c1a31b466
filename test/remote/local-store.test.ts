import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalStore } from '../../src/remote/local-store.js';
import { putInto, storeContract } from '../support/store-contract.js';

storeContract('a directory of this machine', async () => {
  const base = mkdtempSync(join(tmpdir(), 'onnx-serving-local-'));
  return {
    store: new LocalStore(),
    base,
    put: putInto(base),
    close: async () => rmSync(base, { recursive: true, force: true }),
  };
});
