import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTritonTensors, type DescribedModel } from '../../src/model/triton-check.js';
import { parseTritonConfig } from '../../src/repository/triton-config.js';

const model: DescribedModel = {
  label: 'simple version 1',
  graph: {
    inputs: [
      { name: 'a', datatype: 'INT32', shape: [-1, 16] },
      { name: 'b', datatype: 'BYTES', shape: [-1, -1] },
    ],
    outputs: [
      { name: 'sum', datatype: 'INT32', shape: [-1, 16] },
      { name: 'rest', datatype: 'FP32', shape: [-1] },
    ],
  },
  signature: { inputs: [], outputs: [] },
  anyRank: new Set(),
  hasStages: false,
};

const a = 'input { name: "a" data_type: TYPE_INT32 dims: 16 }';
const b = 'input { name: "b" data_type: TYPE_STRING dims: 3 }';

const check = (text: string, changes: Partial<DescribedModel> = {}): void =>
  checkTritonTensors(parseTritonConfig(`max_batch_size: 8 ${text}`, 'config.pbtxt'), {
    ...model,
    ...changes,
  });
const refuses = (text: string, message: RegExp, changes: Partial<DescribedModel> = {}): void =>
  assert.throws(() => check(text, changes), { code: 'SRV_BAD_CONFIG', message });

test('a description that fits is taken, in any order, with some of the outputs or without any tensor', () => {
  check(`${b} ${a}`);
  check(`${a} ${b} output { name: "sum" data_type: TYPE_INT32 dims: 16 }`);
  check('');
  checkTritonTensors(undefined, model);
});

test('an input that the model does not have fails with both descriptions', () => {
  refuses(
    `${a} ${b} input { name: "c" data_type: TYPE_FP32 dims: [2, 3] }`,
    /config\.pbtxt: the inputs do not fit model simple version 1: the model has no "c"\. The file has a TYPE_INT32 \[16\], b TYPE_STRING \[3\], c TYPE_FP32 \[2,3\] with max_batch_size 8; the model has a INT32 \[-1,16\], b BYTES \[-1,-1\]\./,
  );
});

test('an input that the file leaves out, another datatype and another shape fail', () => {
  refuses(a, /the file does not name "b"/);
  refuses(
    `${b} input { name: "a" data_type: TYPE_INT64 dims: 16 }`,
    /"a" is TYPE_INT64 in the file and INT32 in the model/,
  );
  refuses(
    `${b} input { name: "a" data_type: TYPE_INT32 dims: 15 }`,
    /"a" is \[-1,15\] in the file and \[-1,16\] in the model/,
  );
  refuses(`${b} input { name: "a" data_type: TYPE_INT32 dims: [16, 1] }`, /"a" is \[-1,16,1\] in the file/);
  refuses(
    'output { name: "rest" data_type: TYPE_FP32 dims: 1 }',
    /the outputs do not fit .*"rest" is \[-1,1\] in the file and \[-1\] in the model/,
  );
});

test('without a batch dimension the dims are the whole shape', () => {
  const whole = (text: string): void => checkTritonTensors(parseTritonConfig(text, 'config.pbtxt'), model);
  whole(`input { name: "a" data_type: TYPE_INT32 dims: [4, 16] }
    input { name: "b" data_type: TYPE_STRING dims: [-1, 2] }`);
  assert.throws(() => whole(a), { message: /"a" is \[16\] in the file and \[-1,16\] in the model/ });
});

test('a batch limit for a model whose first dimension is fixed fails', () => {
  const graph = { ...model.graph, inputs: [{ name: 'a', datatype: 'INT32', shape: [1, 16] } as const] };
  refuses(a, /"a" is \[-1,16\] in the file and \[1,16\] in the model/, { graph });
});

test('names of requests count beside those of the graph, and stages take the place of inputs', () => {
  const signature = {
    ...model.signature,
    inputs: [{ name: 'ids', datatype: 'INT64', shape: [-1] } as const],
  };
  check(`${a} input { name: "ids" data_type: TYPE_INT64 }`, { signature, hasStages: true });
  refuses(`${a} input { name: "ids" data_type: TYPE_INT64 }`, /does not name "b"/, { signature });
});

test('a tensor of unknown rank is compared by name and datatype alone', () => {
  const anyRank = new Set(['a']);
  check(`input { name: "a" data_type: TYPE_INT32 dims: [2, 3, 4] } ${b}`, { anyRank });
  refuses(`input { name: "a" data_type: TYPE_FP32 dims: 2 } ${b}`, /TYPE_FP32/, { anyRank });
});
