/** The stages of `model.json` that stand for what was cut out of a network. */
import { relative, resolve } from 'node:path';
import type { EmbeddingSettings } from '../../config/embedding-settings.js';
import { parseModelSettings } from '../../config/model-settings.js';
import { isKeyed } from '../../config/problems.js';
import type { EmbeddingCut } from './find-embeddings.js';
import { chosenColumns } from './ids-view.js';
import type { WireGraph } from './wire-graph.js';

/** Where the rows of a stage are. */
export interface StagePlace {
  /** As model.json names it. */
  readonly table: string;
  /** The version whose rows the network was split from, or proved with: no other one is served with it. */
  readonly version: number;
}

/** The stage of a cut, with the names of the graph. */
export function stageOf(graph: WireGraph, cut: EmbeddingCut, place: StagePlace): EmbeddingSettings {
  const { view, tensor, combiner, weights, input } = cut;
  const [first = ''] = view.inputs;
  const shape = graph.inputs.find(({ summary }) => summary.name === first)?.summary.shape ?? [];
  const isSingle = view.inputs.length === 1;
  const columns = isSingle ? chosenColumns(view, shape[1] ?? 1) : undefined;
  return {
    table: place.table,
    version: place.version,
    ids: isSingle ? first : view.inputs,
    datatype: view.datatype,
    ...(shape.length === 2 ? { slots: shape[1]! } : {}),
    ...(columns ? { columns } : {}),
    ...(weights === undefined ? {} : { weights }),
    ...(view.modulus === undefined ? {} : { hash: { modulus: view.modulus } }),
    rows: tensor.shape[0]!,
    ...(combiner === 'none' ? {} : { combiner }),
    // What Gather does with an id that is out of range.
    missing: 'error',
    target: input.name,
  };
}

/** What the new model.json holds, and what was left out of the old one. */
export interface NewSettings {
  readonly text: string;
  readonly notices: readonly string[];
}

/**
 * The model.json of a split model: that of the source, with stages, and without what speaks of inputs that the network
 * no longer has.
 *
 * @param old the text of the source's model.json; absent where there is none
 * @param directories of the two model files, because stages that were there already name their tables by them
 * @throws SRV_BAD_CONFIG when the old text, or the two together, are not a valid model.json
 */
export function settingsWithStages(
  old: { readonly text: string; readonly file: string } | undefined,
  stages: readonly EmbeddingSettings[],
  removedInputs: readonly string[],
  directories: { readonly from: string; readonly to: string },
): NewSettings {
  const settings: Record<string, unknown> = {};
  if (old) {
    parseModelSettings(old.text, old.file);
    Object.assign(settings, JSON.parse(old.text));
  }
  const aliases = isKeyed(settings.inputs) ? (settings.inputs as Record<string, string>) : {};
  const publicNames = new Map(Object.entries(aliases).map(([outside, inside]) => [inside, outside]));
  const publicName = (name: string): string => publicNames.get(name) ?? name;
  const notices: string[] = [];
  const kept = Object.entries(aliases).filter(([, inside]) => !removedInputs.includes(inside));
  if (settings.inputs !== undefined) settings.inputs = Object.fromEntries(kept);
  if (kept.length === 0) delete settings.inputs;
  if (isKeyed(settings.padding)) {
    const removed = removedInputs
      .map(publicName)
      .filter((name) => Object.hasOwn(settings.padding as object, name));
    const padding = Object.entries(settings.padding).filter(([name]) => !removed.includes(name));
    settings.padding = Object.fromEntries(padding);
    if (padding.length === 0) delete settings.padding;
    for (const name of removed) {
      notices.push(`padding of '${name}' was left out of model.json: the network no longer has that input`);
    }
  }
  const earlier = (Array.isArray(settings.embeddings) ? settings.embeddings : []) as EmbeddingSettings[];
  settings.embeddings = [
    ...earlier.map((stage) => ({
      ...stage,
      table: relative(directories.to, resolve(directories.from, stage.table)),
    })),
    ...stages.map((stage) => ({
      ...stage,
      ids: typeof stage.ids === 'string' ? publicName(stage.ids) : stage.ids.map(publicName),
      ...(stage.weights === undefined ? {} : { weights: publicName(stage.weights) }),
    })),
  ];
  const text = `${JSON.stringify(settings, null, 2)}\n`;
  parseModelSettings(text, 'the model.json of the split model');
  return { text, notices };
}
