import { join } from 'node:path';
import { sampleDirectoryName } from '../config/place.js';
import { sampleEnding } from './read-requests.js';

/**
 * Where the sample of a model's traffic lies. Beside the model the directory is a hidden one, because beside a model that
 * is a file others are models.
 *
 * @param directory of the model
 * @param sampleDirectory where all samples lie; absent: beside each model
 */
export function sampleFile(model: string, directory: string, sampleDirectory: string | undefined): string {
  return join(sampleDirectory ?? join(directory, sampleDirectoryName), `${model}${sampleEnding}`);
}
