/** The network and the table in one ONNX model, as training frameworks export it: what `model split` takes apart. */
import { readFileSync } from 'node:fs';
import { nodeMessage, tensorMessage, valueMessage } from '../../src/model/onnx-writer.js';
import { ByteSource, fieldString, readFields, type WireField, WireWriter } from '../../src/protobuf-wire.js';
import { modelFile, rowsFile } from './artefacts.js';
import { slots } from './columns.js';
import { type Rows, unpackRows } from './rows-file.js';

// Numbers of the fields of ONNX's messages that are changed here.
const graphField = 7;
const nodeField = 1;
const initializerField = 5;
const inputField = 11;
const nameField = 1;

/**
 * The bytes of the whole model, 64 MB: inputs `ids` INT64 [batch, 26] and `dense` FP32 [batch, 13], output `ctr`.
 * Made from the shipped files; nothing is trained.
 */
export function wholeModel(): Uint8Array {
  return withTable(readFileSync(modelFile), unpackRows(readFileSync(rowsFile)));
}

/** The dense model with its input `embeddings` replaced by a Gather on the table. */
function withTable(denseModel: Uint8Array, table: Rows): Uint8Array {
  const source = ByteSource.ofBytes(denseModel);
  const model = new WireWriter();
  for (const field of readFields(source)) {
    if (field.number === graphField) model.message(graphField, graphWithTable(source, field, table));
    else model.raw(source.bytes(field.fieldStart, field.end));
  }
  return model.toBytes();
}

function graphWithTable(source: ByteSource, graph: WireField, { count, dim, values }: Rows): WireWriter {
  const whole = new WireWriter()
    .message(nodeField, nodeMessage({ op: 'Gather', inputs: ['table', 'ids'], outputs: ['embeddings'] }))
    .message(
      initializerField,
      tensorMessage({ name: 'table', datatype: 'FP32', shape: [count, dim], data: values }),
    )
    .message(inputField, valueMessage({ name: 'ids', datatype: 'INT64', shape: ['batch', slots] }));
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === inputField && inputName(source, field) === 'embeddings') continue;
    whole.raw(source.bytes(field.fieldStart, field.end));
  }
  return whole;
}

function inputName(source: ByteSource, input: WireField): string | undefined {
  for (const field of readFields(source, input.start, input.end)) {
    if (field.number === nameField) return fieldString(source, field);
  }
  return undefined;
}
