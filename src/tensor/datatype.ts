/** Names and element sizes of the datatypes that the Open Inference Protocol knows. */
export const datatypes = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'BF16',
  'FP32',
  'FP64',
  'BYTES',
] as const;

/** An Open Inference Protocol datatype. */
export type Datatype = (typeof datatypes)[number];

/** A datatype whose elements have a fixed size, that is all but BYTES. */
export type FixedDatatype = Exclude<Datatype, 'BYTES'>;

/** Elements of a tensor in row-major order. FP16 and BF16 are carried as their bits. */
export type FixedData =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

type FixedDataConstructor = {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): FixedData;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): FixedData;
};

interface FixedInfo {
  /** Bytes of one element. */
  readonly bytes: number;
  /** The typed array that views the elements. */
  readonly array: FixedDataConstructor;
  /** onnxruntime's name of the type; undefined where its Node package has none. */
  readonly engine: string | undefined;
  /** `TensorProto.DataType` of onnx.proto, which the native code uses too. */
  readonly onnx: number;
}

/** Facts of each datatype of fixed element size. */
export const fixedDatatypes: Readonly<Record<FixedDatatype, FixedInfo>> = {
  BOOL: { bytes: 1, array: Uint8Array, engine: 'bool', onnx: 9 },
  UINT8: { bytes: 1, array: Uint8Array, engine: 'uint8', onnx: 2 },
  UINT16: { bytes: 2, array: Uint16Array, engine: 'uint16', onnx: 4 },
  UINT32: { bytes: 4, array: Uint32Array, engine: 'uint32', onnx: 12 },
  UINT64: { bytes: 8, array: BigUint64Array, engine: 'uint64', onnx: 13 },
  INT8: { bytes: 1, array: Int8Array, engine: 'int8', onnx: 3 },
  INT16: { bytes: 2, array: Int16Array, engine: 'int16', onnx: 5 },
  INT32: { bytes: 4, array: Int32Array, engine: 'int32', onnx: 6 },
  INT64: { bytes: 8, array: BigInt64Array, engine: 'int64', onnx: 7 },
  FP16: { bytes: 2, array: Uint16Array, engine: 'float16', onnx: 10 },
  BF16: { bytes: 2, array: Uint16Array, engine: undefined, onnx: 16 },
  FP32: { bytes: 4, array: Float32Array, engine: 'float32', onnx: 1 },
  FP64: { bytes: 8, array: Float64Array, engine: 'float64', onnx: 11 },
};

const byOnnx = new Map<number, Datatype>([
  ...Object.entries(fixedDatatypes).map(([name, info]) => [info.onnx, name as Datatype] as const),
  [8, 'BYTES'],
]);
const byEngine = new Map<string, Datatype>([
  ...Object.entries(fixedDatatypes).flatMap(([name, info]) =>
    info.engine ? [[info.engine, name as Datatype] as const] : [],
  ),
  ['string', 'BYTES'],
]);

/** The datatype of an onnx.proto element type, or undefined where the protocol has none (float8, int4, ...). */
export function datatypeOfOnnx(elemType: number): Datatype | undefined {
  return byOnnx.get(elemType);
}

/** The datatype of an onnxruntime type name (`float32`, `string`), or undefined where the protocol has none. */
export function datatypeOfEngine(name: string): Datatype | undefined {
  return byEngine.get(name);
}

/** Whether a string names a datatype. */
export function isDatatype(name: unknown): name is Datatype {
  return typeof name === 'string' && (name === 'BYTES' || Object.hasOwn(fixedDatatypes, name));
}
