/** What a reply came to. */
export interface HttpReply {
  readonly status: number;
  /** Bytes of the body. */
  readonly bytes: number;
  /** The body, where it was asked for. */
  readonly text?: string;
  /** Whether the server keeps the connection open for the next request. */
  readonly isKept: boolean;
}

const headEnd = Buffer.from('\r\n\r\n');

type Framing = 'length' | 'chunked' | 'until-end';

/**
 * Reads the replies of one connection as they come in, in pieces of any size. It knows what a load generator has to:
 * the status, where the body ends, and whether the connection goes on.
 */
export class ReplyReader {
  #keepsText = false;
  /** The beginning of a head that is not whole yet. */
  #partialHead: Buffer | undefined;
  #status = 0;
  #isKept = true;
  #framing: Framing | undefined;
  #bytes = 0;
  /** Bytes missing of the body, or of the chunk at hand. */
  #missing = 0;
  #texts: Buffer[] = [];
  #line = '';
  #lineIs: 'size' | 'after-data' | 'trailer' = 'size';

  /** Prepares for the reply to the next request. */
  begin(keepsText: boolean): void {
    this.#keepsText = keepsText;
    this.#partialHead = undefined;
    this.#framing = undefined;
    this.#bytes = 0;
    this.#missing = 0;
    this.#texts = [];
    this.#line = '';
    this.#lineIs = 'size';
  }

  /**
   * Takes what the connection received.
   *
   * @returns the reply once it is whole
   * @throws when this is not HTTP/1.1
   */
  push(received: Buffer): HttpReply | undefined {
    let body = received;
    while (this.#framing === undefined) {
      const all = this.#partialHead ? Buffer.concat([this.#partialHead, body]) : body;
      const end = all.indexOf(headEnd);
      if (end < 0) {
        this.#partialHead = all;
        return undefined;
      }
      this.#partialHead = undefined;
      this.#readHead(all.toString('latin1', 0, end));
      body = all.subarray(end + headEnd.length);
    }
    return this.#readBody(body) ? this.#reply() : undefined;
  }

  /** The connection ended: gives the reply that this completes, if any. */
  end(): HttpReply | undefined {
    return this.#framing === 'until-end' ? this.#reply() : undefined;
  }

  #readHead(head: string): void {
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(head);
    if (!status) throw new Error('not an HTTP/1.1 reply');
    this.#status = Number(status[1]);
    // Interim replies such as 100 are followed by the one that counts.
    if (this.#status < 200) return;
    this.#isKept = head.startsWith('HTTP/1.1') && !/\r\nconnection: *close/i.test(head);
    const length = /\r\ncontent-length: *(\d+)/i.exec(head);
    if (this.#status === 204 || this.#status === 304) {
      this.#framing = 'length';
    } else if (/\r\ntransfer-encoding:[^\r]*chunked/i.test(head)) {
      this.#framing = 'chunked';
    } else if (length) {
      this.#framing = 'length';
      this.#missing = Number(length[1]);
    } else {
      this.#framing = 'until-end';
      this.#isKept = false;
    }
  }

  #readBody(body: Buffer): boolean {
    if (this.#framing === 'chunked') return this.#readChunks(body);
    this.#take(body);
    if (this.#framing === 'until-end') return false;
    this.#missing -= body.length;
    if (this.#missing < 0) throw new Error('the reply is longer than it says');
    return this.#missing === 0;
  }

  #readChunks(body: Buffer): boolean {
    let at = 0;
    while (at < body.length) {
      if (this.#missing > 0) {
        const piece = body.subarray(at, at + this.#missing);
        this.#take(piece);
        this.#missing -= piece.length;
        at += piece.length;
        continue;
      }
      const lineEnd = body.indexOf(10, at);
      this.#line += body.toString('latin1', at, lineEnd < 0 ? body.length : lineEnd);
      if (lineEnd < 0) return false;
      at = lineEnd + 1;
      if (this.#endLine()) return true;
    }
    return false;
  }

  /** Acts on a whole line between chunks; true when it was the last of the reply. */
  #endLine(): boolean {
    const line = this.#line.trim();
    this.#line = '';
    if (this.#lineIs === 'trailer') return line === '';
    if (this.#lineIs === 'after-data') {
      this.#lineIs = 'size';
      return false;
    }
    const size = Number.parseInt(line, 16);
    if (Number.isNaN(size)) throw new Error('a chunk of the reply has no size');
    this.#missing = size;
    this.#lineIs = size === 0 ? 'trailer' : 'after-data';
    return false;
  }

  #take(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#keepsText) this.#texts.push(piece);
  }

  #reply(): HttpReply {
    return {
      status: this.#status,
      bytes: this.#bytes,
      isKept: this.#isKept,
      ...(this.#keepsText ? { text: Buffer.concat(this.#texts).toString() } : {}),
    };
  }
}
