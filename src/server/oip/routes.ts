import type { ServerConfig } from '../../config/schema.js';
import { errorToData, ServingError } from '../../errors.js';
import { packageVersion } from '../../package-version.js';
import type { AddRoute } from '../plugin.js';
import type { InferenceService, ModelView } from '../service.js';
import { chosenVersion, inferRoute, type ModelParams } from './infer-route.js';
import { readLabelChanges } from './label-changes.js';
import { configOf, indexEntryOf, metadataOf, statisticsOf } from './model-documents.js';
import { warmUpRoute } from './warmup-route.js';

const extensions = [
  'binary_tensor_data',
  'model_configuration',
  'model_repository',
  'parameters',
  'schedule_policy',
  'statistics',
];

/** Adds the routes of the Open Inference Protocol v2 and of Triton's extensions to it. */
export function addOipRoutes(
  add: AddRoute,
  service: InferenceService,
  config: Pick<ServerConfig, 'serverName'> & { readonly isClosing: () => boolean },
): void {
  add('GET', '/v2', async () => ({ name: config.serverName, version: packageVersion, extensions }));
  add('GET', '/v2/health/live', async () => ({ live: true }));
  add('GET', '/v2/health/ready', async (_request, reply) => {
    const ready = service.isReady && !config.isClosing();
    if (!ready) reply.code(503);
    return { ready };
  });
  add('GET', '/v2/models', async () => ({
    models: [
      ...new Set(service.listModels().flatMap(({ name, state }) => (state === 'ready' ? [name] : []))),
    ],
  }));
  add('GET', '/v2/models/stats', async () => ({
    model_stats: service
      .listModels()
      .filter(({ state, variants }) => state === 'ready' && !variants)
      .map(({ name, version }) => statisticsOf(service.model(name, version))),
  }));
  for (const model of ['/v2/models/:model', '/v2/models/:model/versions/:version']) {
    addModelRoutes(add, model, service);
  }
  for (const method of ['GET', 'POST'] as const) {
    add(method, '/v2/models/:model/warmup', (request, reply) => warmUpRoute(service, request, reply));
  }
  addRepositoryRoutes(add, service);
}

function addModelRoutes(add: AddRoute, path: string, service: InferenceService): void {
  add('POST', `${path}/infer`, (request, reply) => inferRoute(service, request, reply));
  add('GET', path, async ({ params }) => metadataOf(viewOf(service, params)));
  add('GET', `${path}/config`, async ({ params }) => configOf(viewOf(service, params)));
  add('GET', `${path}/stats`, async ({ params }) => ({
    model_stats: statisticsByVariant(service, viewOf(service, params)),
  }));
  add('GET', `${path}/ready`, async ({ params }, reply) => {
    const { model } = params as ModelParams;
    try {
      viewOf(service, params);
      return { name: model, ready: true };
    } catch (error) {
      const { code, message } = errorToData(error);
      if (code === 'SRV_MODEL_NOT_FOUND') throw error;
      reply.code(503);
      return { name: model, ready: false, error: message };
    }
  });
}

function addRepositoryRoutes(add: AddRoute, service: InferenceService): void {
  add('POST', '/v2/repository/index', async ({ body }) => {
    const { ready } = readJson(body);
    const models = service.listModels();
    return models.filter(({ state }) => ready !== true || state === 'ready').map(indexEntryOf);
  });
  add('POST', '/v2/repository/models/:model/load', async ({ params, body }) => {
    await service.loadModel((params as ModelParams).model, settingsOf(readJson(body).parameters));
    return '';
  });
  add('POST', '/v2/repository/models/:model/unload', async ({ params }) => {
    await service.unloadModel((params as ModelParams).model);
    return '';
  });
  add('POST', '/v2/repository/config/reload', async () => {
    await service.readModelsConfig();
    return '';
  });
  add('POST', '/v2/repository/models/:model/rollback', async ({ params }) => {
    const { model } = params as ModelParams;
    return { name: model, version: String(await service.rollbackModel(model)) };
  });
  const labels = '/v2/repository/models/:model/labels';
  add('GET', labels, async ({ params }) => service.labels((params as ModelParams).model));
  add('POST', labels, async ({ params, body }) => {
    const { model } = params as ModelParams;
    service.setLabels(model, readLabelChanges(body));
    return service.labels(model);
  });
}

/** The `config` in the parameters of a load; undefined without any. */
function settingsOf(parameters: object = {}): string | undefined {
  const others = Object.keys(parameters).filter((name) => name !== 'config');
  if (others.length > 0) {
    throw new ServingError(
      'SRV_BAD_REQUEST',
      `load: the parameters ${others} are not supported; expected "config" alone, the text of a model.json or of Triton's configuration as JSON`,
    );
  }
  const { config } = parameters as { readonly config?: unknown };
  if (config === undefined) return undefined;
  if (typeof config === 'string') return config;
  throw new ServingError(
    'SRV_BAD_REQUEST',
    `load: expected the text of a model.json, or of Triton's configuration as JSON, in "config", got ${typeof config}`,
  );
}

/** The statistics of a version; under a public name those of the versions behind it, with their variants. */
function statisticsByVariant(service: InferenceService, view: ModelView): readonly object[] {
  if (!view.variants) return [statisticsOf(view)];
  return view.variants.map(({ tag, model, version }) => ({
    ...statisticsOf(service.model(model, version)),
    variant: tag,
  }));
}

function viewOf(service: InferenceService, params: unknown): ReturnType<InferenceService['model']> {
  const { version, label } = chosenVersion(params as ModelParams);
  return service.model((params as ModelParams).model, version, label);
}

function readJson(body: unknown): { readonly ready?: unknown; readonly parameters?: object } {
  if (!(body instanceof Buffer) || body.length === 0) return {};
  try {
    const value: unknown = JSON.parse(body.toString());
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // The same answer as for JSON that is no object.
  }
  throw new ServingError('SRV_BAD_JSON', 'failed to parse the request JSON buffer: expected an object');
}
