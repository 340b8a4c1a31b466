/** What a model's configuration says beside how it is loaded: its labels, and what of it has no effect. */
import type { Logger } from '../observe/logger.js';
import type { ModelEntry, RepositoryEntry } from '../repository/layout.js';
import type { ModelRegistry } from './model-registry.js';

/** Takes the labels of a model's configuration, before its versions are loaded, and logs what has no effect. */
export function noteConfiguration(
  name: string,
  entries: readonly RepositoryEntry[],
  registry: ModelRegistry,
  logger: Logger,
): void {
  const entry = entries.find((one): one is ModelEntry => one.error === undefined);
  // A model whose directory cannot be read for a moment keeps its labels.
  if (!entry) return;
  registry.configureLabels(name, entry.labels ?? {});
  const wanted = entries.flatMap((one) => (one.error === undefined && one.wanted ? (one.notices ?? []) : []));
  for (const notice of new Set([...(entry.notices ?? []), ...wanted])) logger.warn({ model: name }, notice);
}

/** Logs the labels that a model's configuration gives to versions which are not ready, after they were loaded. */
export function reportWaitingLabels(name: string, registry: ModelRegistry, logger: Logger): void {
  const present = registry.labelsOf(name);
  for (const { label, version } of registry.waitingLabelsOf(name)) {
    const stays = present[label] === undefined ? 'stands for none' : `stays on version ${present[label]}`;
    logger.error(
      { model: name, version, label },
      `label '${label}' of model ${name} is configured for version ${version}, which is not ready: it ${stays} until it is`,
    );
  }
}
