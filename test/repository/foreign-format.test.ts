import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { explainForeignFormat } from '../../src/repository/foreign-format.js';

const root = mkdtempSync(join(tmpdir(), 'foreign-'));
after(() => rmSync(root, { recursive: true }));

let count = 0;
function place(name: string, content = ''): string {
  const directory = join(root, String(count++));
  mkdirSync(directory);
  writeFileSync(join(directory, name), content);
  return directory;
}

const cases: readonly [file: string, content: string, converter: string, command: RegExp][] = [
  ['saved_model.pb', '', 'tf2onnx', /python -m tf2onnx\.convert --saved-model \S+ --output \S+model\.onnx/],
  ['net.h5', '', 'tf2onnx', /tf2onnx\.convert --keras \S+net\.h5/],
  ['net.keras', '', 'tf2onnx', /tf2onnx\.convert --keras/],
  ['net.tflite', '', 'tf2onnx', /--tflite/],
  ['frozen.pb', '', 'tf2onnx', /--graphdef/],
  ['m.pkl', '', 'skl2onnx', /skl2onnx\.to_onnx/],
  ['m.joblib', '', 'skl2onnx', /joblib\.load/],
  ['m.pt', '', 'torch.onnx.export', /torch\.onnx\.export\(/],
  ['m.pth', '', 'torch.onnx.export', /torch\.onnx\.export\(/],
  ['m.safetensors', '', 'optimum', /optimum-cli export onnx/],
  ['pytorch_model.bin', '', 'optimum', /optimum-cli export onnx/],
  ['__model__', '', 'paddle2onnx', /paddle2onnx --model_dir \S+ --model_filename __model__/],
  ['net.pdmodel', '', 'paddle2onnx', /--model_filename net\.pdmodel --params_filename net\.pdiparams/],
  ['net.pdiparams', '', 'paddle2onnx', /paddle2onnx/],
  ['m.mlmodel', '', 'onnxmltools', /convert_coreml/],
  ['m.ubj', '', 'onnxmltools', /convert_xgboost/],
  ['m.json', '{"learner":{}}', 'onnxmltools', /convert_xgboost/],
  ['m.bin', 'binf\u0000', 'onnxmltools', /convert_xgboost/],
  ['m.txt', 'tree\nversion=v4\n', 'onnxmltools', /convert_lightgbm/],
  ['m.cbm', 'CBM1', 'CatBoost', /format='onnx'/],
];

for (const [file, content, converter, command] of cases) {
  test(`${file}${content === '' ? '' : ' by its first bytes'} is refused with the command that converts it`, async () => {
    const directory = place(file, content);
    for (const path of [directory, join(directory, file)]) {
      await assert.rejects(explainForeignFormat(path), (error: unknown) => {
        assert.ok(error instanceof ServingError);
        assert.equal(error.code, 'SRV_FOREIGN_FORMAT');
        assert.ok(String(error.details?.converter).startsWith(converter));
        assert.match(error.message, command);
        return true;
      });
    }
  });
}

test('files that are no models, and places that are missing, are nobody’s format', async () => {
  await explainForeignFormat(place('model.json', '{"cpu": true}'));
  await explainForeignFormat(place('README.txt', 'tree of models\n'));
  await explainForeignFormat(place('weights.bin', 'abc'));
  await explainForeignFormat(join(root, 'absent'));
});

test('paths with blanks are quoted in the command', async () => {
  const directory = join(root, 'my models');
  mkdirSync(directory);
  writeFileSync(join(directory, 'net.h5'), '');
  await assert.rejects(explainForeignFormat(directory), /--keras '[^']+my models\/net\.h5'/);
});
