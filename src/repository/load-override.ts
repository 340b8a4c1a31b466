/** What a load by request says beside the files of a model: it wins over them until the next load. */
import { type ModelSettings, modelSettingKeys, parseModelSettings } from '../config/model-settings.js';
import { isKeyed } from '../config/problems.js';
import { snakeCase } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import { missingVersions, type RepositoryEntry } from './layout.js';
import { type TritonConfig, tritonConfigOfJson, unsupportedReason } from './triton-config.js';
import { tritonFields } from './triton-fields.js';
import { policyOfSettings, type VersionPolicy, wantedVersions } from './version-policy.js';

/** An override. */
export interface LoadOverride {
  readonly settings: ModelSettings;
  /** Where it was given in Triton's form. */
  readonly tritonConfig?: TritonConfig;
}

/**
 * Reads the `config` of a load: a `model.json`, or a configuration of Triton as JSON, told apart by a field that only
 * Triton has.
 *
 * @param model the name of the model, which the text may repeat
 * @throws SRV_BAD_CONFIG, SRV_MODEL_UNSUPPORTED for a field of Triton that cannot be followed
 */
export function readLoadOverride(text: string, model: string): LoadOverride {
  const source = `the config of the load of '${model}'`;
  const json = parseJson(text, source);
  const tritonConfig = isTriton(json) ? tritonConfigOfJson(json, source) : undefined;
  const settings = tritonConfig?.settings ?? parseModelSettings(text, source);
  const name = tritonConfig ? tritonConfig.name : settings.name;
  if (name !== undefined && name !== model) {
    throw new ServingError('SRV_BAD_CONFIG', `${source}: name: expected "${model}" or none, got "${name}"`);
  }
  if (settings.reloadableMeta !== undefined || settings.reloadableType !== undefined) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${source}: reloadable_meta and reloadable_type belong into model.json: a load does not change which stamp is watched`,
    );
  }
  const reason = tritonConfig && unsupportedReason(tritonConfig);
  if (reason !== undefined) throw new ServingError('SRV_MODEL_UNSUPPORTED', reason);
  return tritonConfig ? { settings, tritonConfig } : { settings };
}

/** The versions of a model as an override wants them. @param entries all of its versions, as its place has them */
export function withOverride(
  entries: readonly RepositoryEntry[],
  { settings, tritonConfig }: LoadOverride,
): readonly RepositoryEntry[] {
  const policy = policyOfSettings(settings) ?? tritonConfig?.versionPolicy;
  const sound = entries.flatMap((entry) => (entry.error === undefined ? [entry] : []));
  const wanted =
    policy &&
    wantedVersions(
      sound.map(({ version }) => version),
      policy,
    );
  // What the files' own policy lacked is nothing that this one wants.
  const there = policy ? entries.filter((entry) => !(entry.error !== undefined && entry.isAbsent)) : entries;
  const changed = there.map((entry) => {
    if (entry.error !== undefined) return entry;
    const { notices = [] } = tritonConfig ?? {};
    return {
      ...entry,
      settings: { ...entry.settings, ...settings },
      ...(policy && wanted ? { policy, wanted: wanted.has(entry.version) } : {}),
      ...(settings.labels ? { labels: settings.labels } : {}),
      ...(tritonConfig ? { tritonConfig, notices: [...(entry.notices ?? []), ...notices] } : {}),
    };
  });
  return [...changed, ...missingOf(there, policy)];
}

function missingOf(
  entries: readonly RepositoryEntry[],
  policy: VersionPolicy | undefined,
): readonly RepositoryEntry[] {
  const [first] = entries;
  if (!first) return [];
  const { name, directory } = first;
  return missingVersions(directory, entries, policy).map((missing) => ({ name, directory, ...missing }));
}

function parseJson(text: string, source: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ServingError('SRV_BAD_CONFIG', `${source} is not JSON: ${messageOf(cause)}.`, { cause });
  }
  if (isKeyed(value)) return value;
  throw new ServingError('SRV_BAD_CONFIG', `${source} does not hold a JSON object.`);
}

function isTriton(json: Readonly<Record<string, unknown>>): boolean {
  const own = new Set(modelSettingKeys.map(({ outside }) => outside));
  const isForeign = (key: string): boolean => !own.has(key) && Object.hasOwn(tritonFields, snakeCase(key));
  const { version_policy: policy, max_batch_size: rows } = json;
  const isForeignPolicy = isKeyed(policy) && Object.values(policy).some(isKeyed);
  // Without a batch axis there is nothing to merge: model.json says that otherwise.
  return Object.keys(json).some(isForeign) || isForeignPolicy || rows === 0;
}
