/** Paddle Serving's `serving_server_conf.prototxt`: public names (aliases) of the inputs and outputs of a graph. */
import { readFile } from 'node:fs/promises';
import type { ModelSettings } from '../config/model-settings.js';
import { messageOf, ServingError } from '../errors.js';
import { lastText, messagesOf, parseTextProto, type TextMessage } from './text-proto.js';

/** The name of the file beside the model. */
export const paddleConfigName = 'serving_server_conf.prototxt';

/**
 * Reads a `serving_server_conf.prototxt` as the settings it amounts to: `inputs` and `outputs`.
 *
 * @throws ServingError `SRV_BAD_CONFIG` for a text that is no such message, `SRV_IO` when it cannot be read.
 */
export async function readPaddleConfig(file: string): Promise<ModelSettings> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, { cause });
  }
  return parsePaddleConfig(text, file);
}

/** The settings in the text of a `serving_server_conf.prototxt`; `source` is what errors call it. */
export function parsePaddleConfig(text: string, source: string): ModelSettings {
  const message = parseTextProto(text, source);
  if (!message.has('feed_var') || !message.has('fetch_var')) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${source}: expected feed_var and fetch_var, found neither or one.`,
    );
  }
  const inputs = aliasesOf(messagesOf(message, 'feed_var'), source);
  const outputs = aliasesOf(messagesOf(message, 'fetch_var'), source);
  return Object.freeze({
    ...(Object.keys(inputs).length > 0 ? { inputs } : {}),
    ...(Object.keys(outputs).length > 0 ? { outputs } : {}),
  });
}

function aliasesOf(variables: readonly TextMessage[], source: string): Record<string, string> {
  const aliases = new Map<string, string>();
  for (const variable of variables) {
    const name = lastText(variable, 'name');
    const alias = lastText(variable, 'alias_name') || name;
    if (!name || !alias) {
      throw new ServingError('SRV_BAD_CONFIG', `${source}: a feed_var or fetch_var has no name.`);
    }
    if (aliases.has(alias)) {
      throw new ServingError('SRV_BAD_CONFIG', `${source}: the alias "${alias}" is given twice.`);
    }
    aliases.set(alias, name);
  }
  return Object.fromEntries([...aliases].filter(([alias, name]) => alias !== name));
}
