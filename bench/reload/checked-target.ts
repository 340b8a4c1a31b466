import { HttpConnections, postBytes } from '../../src/loadtest/http-connections.js';
import type { LoadTarget } from '../../src/loadtest/target.js';
import type { CheckedRequests } from './checked-requests.js';
import { answerOf, isNear } from './known-answers.js';

/** What came of one version. */
export interface VersionAnswers {
  readonly version: number;
  /** When the first answer by it was read, ms since 1970. */
  readonly firstAt: number;
  readonly answers: number;
}

interface Reply {
  readonly model_version?: string;
  readonly outputs?: readonly { readonly data?: readonly number[] }[];
}

/** A client keeps its connections; what is due beyond them waits, and that counts. */
const maxConnections = 256;
const timeoutMs = 30_000;
const keptExamples = 5;

/**
 * A server whose every answer is compared with what the version that it names answers. A request that was sent after
 * an answer by a version must not be answered by one before it.
 */
export class CheckedTarget implements LoadTarget {
  readonly description: string;
  readonly rowsPerRequest = 1;
  readonly isInProcess = false;
  /** Some of the answers that were wrong, in words. */
  readonly examples: string[] = [];
  readonly #requests: CheckedRequests;
  readonly #posts: readonly Buffer[];
  readonly #connections: HttpConnections;
  readonly #versions = new Map<number, { firstAt: number; answers: number }>();
  #newest = 0;

  constructor(server: string, requests: CheckedRequests) {
    const url = new URL(`${server}/v2/models/${requests.model}/infer`);
    this.description = url.href;
    this.#requests = requests;
    const headers = { 'content-type': 'application/json' };
    this.#posts = requests.bodies.map((body) => postBytes(url, headers, Buffer.from(body)));
    this.#connections = new HttpConnections({ url, maxConnections, timeoutMs });
  }

  get versions(): readonly VersionAnswers[] {
    return [...this.#versions].map(([version, counts]) => ({ version, ...counts }));
  }

  async send(index: number): Promise<string | undefined> {
    const at = index % this.#posts.length;
    const newestBefore = this.#newest;
    try {
      const { status, text = '' } = await this.#connections.send(this.#posts[at]!, true);
      if (status !== 200) return this.#failure(`http ${status}`, text);
      return this.#check(at, text, newestBefore);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      return code ?? message;
    }
  }

  async statistics(): Promise<undefined> {
    return undefined;
  }

  async close(): Promise<void> {
    this.#connections.close();
  }

  #check(at: number, text: string, newestBefore: number): string | undefined {
    const { model_version, outputs } = JSON.parse(text) as Reply;
    const version = Number(model_version);
    const value = outputs?.[0]?.data?.[0];
    if (!Number.isInteger(version) || value === undefined) return this.#failure('not an answer', text);
    const { bases, answering } = this.#requests;
    const expected = answerOf(version, bases[at]!, answering);
    if (!isNear(value, expected, answering)) {
      return this.#failure('wrong answer', `${value} by version ${version}; expected ${expected}`);
    }
    if (version < newestBefore) {
      return this.#failure('went back', `version ${version} after an answer by version ${newestBefore}`);
    }
    this.#newest = Math.max(this.#newest, version);
    const counts = this.#versions.get(version) ?? { firstAt: Date.now(), answers: 0 };
    counts.answers += 1;
    this.#versions.set(version, counts);
    return undefined;
  }

  #failure(reason: string, what: string): string {
    if (this.examples.length < keptExamples) this.examples.push(`${reason}: ${what.slice(0, 300)}`);
    return reason;
  }
}
