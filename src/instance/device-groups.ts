import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { providers } from '../config/providers.js';
import type { RuntimeConfig } from '../config/schema.js';
import { ServingError } from '../errors.js';
import { InstanceGroup, type InstanceGroupEvents } from './instance-group.js';
import type { Device } from './messages.js';

/** Opens a group for each card of the configuration, and one for the CPU where it asks for one. */
export function openGroups(
  config: RuntimeConfig,
  options: { readonly events: InstanceGroupEvents; readonly workerFile?: string | undefined },
): readonly InstanceGroup[] {
  const { events } = options;
  const workerFile = options.workerFile === undefined ? {} : { workerFile: options.workerFile };
  const provider = providers[config.provider];
  const cards = config.gpuIds.map((cardId) => {
    const device: Device = {
      name: `${config.provider}:${cardId}`,
      provider: provider.engineName,
      ...(provider.takesDeviceId ? { deviceId: cardId } : {}),
    };
    return new InstanceGroup({ device, cardId, size: config.predictorsPerCard, events, ...workerFile });
  });
  if (!config.cpuGroup) return cards;
  const cpu = { name: 'cpu', provider: 'cpu' };
  return [...cards, new InstanceGroup({ device: cpu, size: config.threads, events, ...workerFile })];
}

// A model of one Identity node, FP32 [1]: the smallest that makes the engine open its provider.
const probeModel = Buffer.from(
  'CAgSDG9ubngtc2VydmluZzo7ChAKAXgSAXkiCElkZW50aXR5EgVncmFwaFoPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=',
  'base64',
);

/**
 * Opens a tiny session on every card, so that a missing provider stops the start instead of every request.
 *
 * @throws SRV_PROVIDER_MISSING with what to install
 */
export async function requireProviders(groups: readonly InstanceGroup[]): Promise<void> {
  const cards = groups.filter((group) => group.device.provider !== 'cpu');
  if (cards.length === 0) return;
  const directory = await mkdtemp(join(tmpdir(), 'onnx-serving-probe-'));
  try {
    const file = join(directory, 'probe.onnx');
    await writeFile(file, probeModel);
    for (const group of cards) await probe(group, file);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function probe(group: InstanceGroup, file: string): Promise<void> {
  const versionId = -1;
  try {
    await group.load({
      versionId,
      journalId: 0,
      file,
      device: group.device,
      inputs: [{ name: 'x', datatype: 'FP32' }],
      outputs: [{ name: 'y', datatype: 'FP32' }],
      intraOpThreads: 1,
      graphOptimization: 'all',
      sessionExtra: {},
      mappedInodes: [],
      sources: [],
      tables: [],
      stages: [],
    });
  } catch (error) {
    const hint = Object.values(providers).find(
      (one) => one.engineName === group.device.provider,
    )?.installHint;
    throw new ServingError(
      'SRV_PROVIDER_MISSING',
      `${group.device.name} cannot be used: ${error instanceof Error ? error.message : error}. To install it: ${hint}`,
      { cause: error },
    );
  }
  await group.unload(versionId);
}
