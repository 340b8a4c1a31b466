/** Lifting models of an old IR version. */

import { ByteSource, readFields, type WireField, WireWriter } from '../protobuf-wire.js';
import { readOnnxBytes, readValue } from './onnx-file.js';

/** The IR version from which constants that the optimiser adds are not inputs of the graph. */
const firstLayeredIrVersion = 4;
const liftedIrVersion = 8;

/**
 * Lifts a model of IR version 3 and less to 8 and removes the inputs that initialisers give a value; every other
 * byte stays as it is, and a newer model is returned as it came. Under IR < 4 every constant is also an input, so
 * that the constants an optimiser adds silently change the signature of what it writes.
 *
 * @throws SRV_MODEL_INVALID when the bytes are not an ONNX model
 */
export function liftIrVersion(bytes: Uint8Array): Uint8Array {
  const summary = readOnnxBytes(bytes);
  if (summary.irVersion >= firstLayeredIrVersion) return bytes;
  const source = ByteSource.ofBytes(bytes);
  const optional = new Set(summary.optionalInputs);
  const model = new WireWriter();
  for (const field of readFields(source)) {
    if (field.number === 1) model.integer(1, liftedIrVersion);
    else if (field.number === 7) model.message(7, withoutInputs(source, field, optional));
    else model.raw(source.bytes(field.fieldStart, field.end));
  }
  return model.toBytes();
}

function withoutInputs(source: ByteSource, graph: WireField, names: ReadonlySet<string>): WireWriter {
  const writer = new WireWriter();
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === 11 && names.has(readValue(source, field).name)) continue;
    writer.raw(source.bytes(field.fieldStart, field.end));
  }
  return writer;
}
