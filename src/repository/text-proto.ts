/** A reader of protobuf's text form, as `config.pbtxt` and `*.prototxt` are written, without knowing any message. */
import { ServingError } from '../errors.js';

type Scalar =
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'number'; readonly value: number | bigint }
  | { readonly kind: 'word'; readonly value: string };

/** The line that a value's field stands on, or the value itself where it stands in a list; counted from 1. */
interface Line {
  readonly line: number;
}

/** A scalar: quoted text, a number (bigint where a number would lose digits), or a bare word: enum, true, false. */
export type TextScalar = Scalar & Line;

/** A value of a field. */
export type TextValue = TextScalar | ({ readonly kind: 'message'; readonly value: TextMessage } & Line);

/** A message: each field's values in the order they were written; lists and repeated fields look the same. */
export type TextMessage = ReadonlyMap<string, readonly TextValue[]>;

/**
 * Reads a message in text form.
 *
 * @param source what errors call the text, usually its file.
 * @throws ServingError `SRV_BAD_CONFIG` with line and column.
 */
export function parseTextProto(text: string, source: string): TextMessage {
  const reader = new TextProtoReader(text, source);
  return reader.readMessage(undefined, 0);
}

// Far above any real message, far below what the stack holds.
const maxDepth = 100;

const escapes: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  '\\': 92,
  "'": 39,
  '"': 34,
  '?': 63,
};

class TextProtoReader {
  readonly #text: string;
  readonly #source: string;
  #at = 0;
  /** How far lines have been counted, and the number of the one there. */
  #counted = { at: 0, line: 1 };

  constructor(text: string, source: string) {
    this.#text = text;
    this.#source = source;
  }

  /** Reads fields up to `close`, or to the end of the text where that is undefined. */
  readMessage(close: '}' | '>' | undefined, depth: number): TextMessage {
    if (depth > maxDepth) this.#fail(`nested more than ${maxDepth} deep`);
    const fields = new Map<string, TextValue[]>();
    for (;;) {
      this.#skipBlanks();
      if (this.#at >= this.#text.length) {
        if (close !== undefined) this.#fail(`the text ends before a "${close}"`);
        return fields;
      }
      if (close !== undefined && this.#take(close)) return fields;
      const line = this.#line();
      const name = this.#fieldName();
      const values = fields.get(name) ?? [];
      fields.set(name, values);
      this.#skipBlanks();
      const hasColon = this.#take(':');
      this.#skipBlanks();
      this.#readValues(values, hasColon, depth, line);
      this.#skipBlanks();
      if (!this.#take(',')) this.#take(';');
    }
  }

  #readValues(values: TextValue[], hasColon: boolean, depth: number, line: number): void {
    if (!this.#take('[')) {
      values.push(this.#value(hasColon, depth, line));
      return;
    }
    this.#skipBlanks();
    if (this.#take(']')) return;
    for (;;) {
      this.#skipBlanks();
      values.push(this.#value(hasColon, depth, this.#line()));
      this.#skipBlanks();
      if (this.#take(']')) return;
      if (!this.#take(',')) this.#fail('expected "," or "]" in a list');
    }
  }

  #value(mayBeScalar: boolean, depth: number, line: number): TextValue {
    if (this.#take('{')) return { kind: 'message', value: this.readMessage('}', depth + 1), line };
    if (this.#take('<')) return { kind: 'message', value: this.readMessage('>', depth + 1), line };
    if (!mayBeScalar) this.#fail('expected ":" or "{" after a field name');
    return { ...this.#scalar(), line };
  }

  #line(): number {
    const { at, line } = this.#counted;
    let newlines = 0;
    for (let i = this.#text.indexOf('\n', at); i >= 0 && i < this.#at; i = this.#text.indexOf('\n', i + 1))
      newlines++;
    this.#counted = { at: this.#at, line: line + newlines };
    return this.#counted.line;
  }

  #fieldName(): string {
    const name = this.#match(/[A-Za-z_][\w]*|\[[\w./-]+\]/y);
    if (name === undefined) this.#fail('expected a field name');
    return name;
  }

  #scalar(): Scalar {
    const first = this.#text[this.#at];
    if (first === '"' || first === "'") return { kind: 'string', value: this.#strings() };
    const isNegative = this.#take('-');
    this.#skipBlanks();
    const number = this.#match(/(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.])/y);
    if (number !== undefined) return { kind: 'number', value: numberOf(number, isNegative) };
    const word = this.#match(/[A-Za-z_]\w*/y);
    if (word === undefined) this.#fail('expected a value');
    const special = /^(?:inf(?:inity)?)$/i.test(word)
      ? Infinity
      : /^nan$/i.test(word)
        ? Number.NaN
        : undefined;
    if (special !== undefined) return { kind: 'number', value: isNegative ? -special : special };
    if (isNegative) this.#fail(`"-" stands before "${word}", which is no number`);
    return { kind: 'word', value: word };
  }

  /** Strings that follow each other are one string. Escapes mean bytes, and the whole is UTF-8. */
  #strings(): string {
    const parts: Buffer[] = [];
    for (;;) {
      const quote = this.#text[this.#at];
      if (quote !== '"' && quote !== "'") return Buffer.concat(parts).toString('utf8');
      this.#at++;
      this.#stringBody(quote, parts);
      this.#skipBlanks();
    }
  }

  #stringBody(quote: string, parts: Buffer[]): void {
    for (;;) {
      const plain = this.#match(quote === '"' ? /[^"\\\n]+/y : /[^'\\\n]+/y);
      if (plain !== undefined) parts.push(Buffer.from(plain, 'utf8'));
      if (this.#take(quote)) return;
      if (!this.#take('\\')) this.#fail('a string does not end');
      parts.push(this.#escape());
    }
  }

  #escape(): Buffer {
    const octal = this.#match(/[0-7]{1,3}/y);
    if (octal !== undefined) return Buffer.from([Number.parseInt(octal, 8) & 255]);
    const hex = this.#match(/[xX][0-9a-fA-F]{1,2}/y);
    if (hex !== undefined) return Buffer.from([Number.parseInt(hex.slice(1), 16)]);
    const point = this.#match(/u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}/y);
    if (point !== undefined) {
      const code = Number.parseInt(point.slice(1), 16);
      if (code > 0x10ffff) this.#fail(`\\${point} is no character`);
      return Buffer.from(String.fromCodePoint(code), 'utf8');
    }
    const code = escapes[this.#text[this.#at] ?? ''];
    if (code === undefined) this.#fail('unknown escape in a string');
    this.#at++;
    return Buffer.from([code]);
  }

  #skipBlanks(): void {
    this.#match(/(?:[\s\uFEFF]+|#[^\n]*)+/y);
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #fail(text: string): never {
    const lines = this.#text.slice(0, this.#at).split('\n');
    const column = (lines.at(-1)?.length ?? 0) + 1;
    throw new ServingError('SRV_BAD_CONFIG', `${this.#source}:${lines.length}:${column}: ${text}.`);
  }
}

function numberOf(text: string, isNegative: boolean): number | bigint {
  const sign = isNegative ? -1 : 1;
  if (/^0[xX]/.test(text)) return exact(BigInt(text), isNegative);
  if (/^0[0-7]+$/.test(text)) return sign * Number.parseInt(text, 8);
  if (/^\d+$/.test(text)) return exact(BigInt(text), isNegative);
  return sign * Number(text.replace(/[fF]$/, ''));
}

function exact(magnitude: bigint, isNegative: boolean): number | bigint {
  const value = isNegative ? -magnitude : magnitude;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** The last value of a field as a string, word or number text; undefined where the field is absent. */
export function lastText(message: TextMessage, field: string): string | undefined {
  const value = message.get(field)?.at(-1);
  return value === undefined || value.kind === 'message' ? undefined : String(value.value);
}

/** The last value of a field as a number; undefined where it is absent or no number. */
export function lastNumber(message: TextMessage, field: string): number | undefined {
  const value = message.get(field)?.at(-1);
  return value?.kind === 'number' ? Number(value.value) : undefined;
}

/** The messages of a field, in order. */
export function messagesOf(message: TextMessage, field: string): readonly TextMessage[] {
  return (message.get(field) ?? []).flatMap((value) => (value.kind === 'message' ? [value.value] : []));
}

/** The numbers of a field, in order. */
export function numbersOf(message: TextMessage, field: string): readonly number[] {
  return (message.get(field) ?? []).flatMap((value) =>
    value.kind === 'number' ? [Number(value.value)] : [],
  );
}
