/** The files that make up a model: the `.onnx` file and its external data. */
import { statSync } from 'node:fs';
import { dirname, isAbsolute, join, normalize, sep } from 'node:path';
import { ServingError } from '../errors.js';
import type { OnnxSummary } from './onnx-file.js';

/** One file of a model. */
export interface ModelFile {
  /** Relative to the model's directory; '' for the model file. */
  readonly location: string;
  readonly path: string;
  readonly bytes: number;
}

/**
 * The model file and the files that its constants name.
 *
 * @throws SRV_MODEL_INVALID when an external file is missing or lies outside the model's directory
 */
export function modelFiles(path: string, summary: OnnxSummary): ModelFile[] {
  const files: ModelFile[] = [{ location: '', path, bytes: summary.fileBytes }];
  const locations = new Set<string>();
  for (const { externalFile } of summary.constants)
    if (externalFile !== undefined) locations.add(externalFile);
  for (const location of locations) {
    if (isAbsolute(location) || normalize(location).split(sep)[0] === '..') {
      throw invalid(path, `its external data '${location}' lies outside the model's directory`);
    }
    const external = join(dirname(path), location);
    const info = statSync(external, { throwIfNoEntry: false });
    if (!info?.isFile()) throw invalid(path, `its external data '${location}' is not there (${external})`);
    files.push({ location, path: external, bytes: info.size });
  }
  return files;
}

function invalid(path: string, what: string): ServingError {
  return new ServingError('SRV_MODEL_INVALID', `${path}: ${what}`, { details: { path } });
}
