/** A runtime and its HTTP server on a free port of the loopback, with models of the test's own. */
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { RuntimeOptions, ServerOptions } from '../../src/config/schema.js';
import type { OnnxModel } from '../../src/model/onnx-writer.js';
import { openRuntime, type Runtime, type RuntimeDependencies } from '../../src/runtime.js';
import { createServer } from '../../src/server/app.js';
import { makeDirectory, placeModel, removeDirectory, type SettingsFile } from './test-models.js';

/** A model to be served, alone or with its settings. */
export type ServedModel = OnnxModel | { readonly model: OnnxModel; readonly settings: SettingsFile };

/** An open runtime with a directory of its own. */
export interface OpenedRuntime {
  readonly runtime: Runtime;
  /** The model repository. */
  readonly repository: string;
  /** Where the cache and anything else of the test lies. */
  readonly directory: string;
  close(): Promise<void>;
}

/** A server that listens. */
export interface Served extends OpenedRuntime {
  readonly app: FastifyInstance;
  /** `http://127.0.0.1:<port>`. */
  readonly url: string;
}

/**
 * Opens a runtime on these models, with two threads and a cache that is removed at the end. Its warm-up runs requests
 * alone, unless the options say otherwise: batches of every size are work that only tests of them need.
 */
export async function openWith(
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions = {},
  dependencies: RuntimeDependencies = {},
): Promise<OpenedRuntime> {
  const directory = makeDirectory();
  const repository = join(directory, 'models');
  for (const [name, served] of Object.entries(models)) {
    if ('model' in served) placeModel(repository, name, served.model, served.settings);
    else placeModel(repository, name, served);
  }
  const runtime = await openRuntime(
    {
      modelRepository: repository,
      cacheDir: join(directory, 'cache'),
      threads: 2,
      warmUpBatchSizes: 'off',
      ...options,
    },
    dependencies,
  );
  return {
    runtime,
    repository,
    directory,
    close: async () => {
      await runtime.close();
      removeDirectory(directory);
    },
  };
}

/** Serves these models. */
export async function serveModels(
  models: Readonly<Record<string, ServedModel>>,
  options: { readonly runtime?: RuntimeOptions; readonly server?: ServerOptions } = {},
): Promise<Served> {
  const opened = await openWith(models, options.runtime);
  const app = await createServer(opened.runtime, options.server);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return {
    ...opened,
    app,
    url,
    close: async () => {
      app.server.closeAllConnections();
      await app.close();
      await opened.close();
    },
  };
}
