/** Asks a server for one row's probability at a time, in the JSON form of the Open Inference Protocol. */
import { Agent, request } from 'node:http';
import type { ModelInput } from './model-input.js';

/** The body of a request for one row. */
export function requestBody({ ids, dense }: ModelInput): string {
  return JSON.stringify({
    inputs: [
      { name: 'ids', shape: [1, ids.length], datatype: 'INT64', data: [...ids] },
      { name: 'dense', shape: [1, dense.length], datatype: 'FP32', data: [...dense] },
    ],
  });
}

/** Kept connections to a model of a server. */
export class InferClient {
  readonly #url: URL;
  readonly #agent: Agent;

  /**
   * @param server URL of the server, as it prints it
   * @param model the model's name
   */
  constructor(server: string, model: string, connections: number) {
    this.#url = new URL(`/v2/models/${encodeURIComponent(model)}/infer`, server);
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /**
   * The probability of a click.
   *
   * @throws Error with the server's own words when it does not answer with one
   */
  async infer(row: ModelInput): Promise<number> {
    const { status, text } = await this.#post(requestBody(row));
    if (status !== 200) throw new Error(`${this.#url} answered ${status}: ${text}`);
    const reply = JSON.parse(text) as { outputs: { name: string; data: number[] }[] };
    const probability = reply.outputs.find(({ name }) => name === 'ctr')?.data[0];
    if (probability === undefined) throw new Error(`${this.#url} answered without ctr: ${text}`);
    return probability;
  }

  close(): void {
    this.#agent.destroy();
  }

  #post(body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const sent = request(this.#url, { method: 'POST', agent: this.#agent, headers }, (reply) => {
        let text = '';
        reply.setEncoding('utf8');
        reply.on('data', (part: string) => {
          text += part;
        });
        reply.on('end', () => resolve({ status: reply.statusCode!, text }));
        reply.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  }
}
