/** Models of other frameworks: recognised by name or first bytes, refused with the command that converts them. */
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { ServingError } from '../errors.js';

interface ForeignFormat {
  readonly title: string;
  readonly converter: string;
  readonly command: (file: string) => string;
  readonly matches: (file: string, head: () => Promise<string>) => boolean | Promise<boolean>;
}

const named =
  (...names: string[]) =>
  (file: string): boolean =>
    names.includes(basename(file));
const ending =
  (...extensions: string[]) =>
  (file: string): boolean =>
    extensions.includes(extname(file).toLowerCase());

/** In the order they are tried: a name says more than an ending, an ending more than first bytes. */
const formats: readonly ForeignFormat[] = [
  {
    title: 'a TensorFlow SavedModel',
    converter: 'tf2onnx',
    matches: named('saved_model.pb', 'saved_model.pbtxt'),
    command: (file) =>
      `python -m tf2onnx.convert --saved-model ${quoted(dirname(file))} --output ${target(dirname(file))}`,
  },
  {
    title: 'a Keras model',
    converter: 'tf2onnx',
    matches: ending('.h5', '.keras', '.hdf5'),
    command: (file) => `python -m tf2onnx.convert --keras ${quoted(file)} --output ${target(dirname(file))}`,
  },
  {
    title: 'a TensorFlow Lite model',
    converter: 'tf2onnx',
    matches: ending('.tflite'),
    command: (file) => `python -m tf2onnx.convert --tflite ${quoted(file)} --output ${target(dirname(file))}`,
  },
  {
    title: 'a frozen TensorFlow graph',
    converter: 'tf2onnx',
    matches: ending('.pb'),
    command: (file) =>
      `python -m tf2onnx.convert --graphdef ${quoted(file)} --inputs INPUT:0 --outputs OUTPUT:0 --output ${target(dirname(file))}`,
  },
  {
    title: 'a Paddle model',
    converter: 'paddle2onnx',
    matches: ending('.pdmodel', '.pdiparams'),
    command: (file) => {
      const stem = basename(file, extname(file));
      return `paddle2onnx --model_dir ${quoted(dirname(file))} --model_filename ${quoted(`${stem}.pdmodel`)} --params_filename ${quoted(`${stem}.pdiparams`)} --save_file ${target(dirname(file))}`;
    },
  },
  {
    title: 'a Paddle model',
    converter: 'paddle2onnx',
    matches: named('__model__', '__params__'),
    command: (file) =>
      `paddle2onnx --model_dir ${quoted(dirname(file))} --model_filename __model__ --params_filename __params__ --save_file ${target(dirname(file))}`,
  },
  {
    title: 'a checkpoint of Hugging Face Transformers',
    converter: 'optimum (torch.onnx.export for one network)',
    matches: (file) => named('pytorch_model.bin')(file) || ending('.safetensors')(file),
    command: (file) => `optimum-cli export onnx --model ${quoted(dirname(file))} ${quoted(dirname(file))}`,
  },
  {
    title: 'a PyTorch checkpoint',
    converter: 'torch.onnx.export',
    matches: ending('.pt', '.pth', '.ckpt'),
    command: (file) =>
      python(
        `import torch; m = torch.load('${file}', map_location='cpu', weights_only=False).eval(); torch.onnx.export(m, (torch.zeros(1, FEATURES),), '${join(dirname(file), 'model.onnx')}', input_names=['x'], output_names=['y'], dynamic_axes={'x': {0: 'batch'}, 'y': {0: 'batch'}})`,
      ),
  },
  {
    title: 'a pickled scikit-learn model',
    converter: 'skl2onnx',
    matches: ending('.pkl', '.pickle', '.joblib'),
    command: (file) =>
      python(
        `import joblib, numpy, skl2onnx; m = joblib.load('${file}'); open('${join(dirname(file), 'model.onnx')}', 'wb').write(skl2onnx.to_onnx(m, numpy.zeros((1, m.n_features_in_), numpy.float32)).SerializeToString())`,
      ),
  },
  {
    title: 'a Core ML model',
    converter: 'onnxmltools',
    matches: ending('.mlmodel'),
    command: (file) =>
      python(
        `import coremltools, onnxmltools; onnxmltools.utils.save_model(onnxmltools.convert_coreml(coremltools.utils.load_spec('${file}')), '${join(dirname(file), 'model.onnx')}')`,
      ),
  },
  {
    title: 'a CatBoost model',
    converter: "CatBoost's own export",
    matches: ending('.cbm'),
    command: (file) =>
      python(
        `import catboost; catboost.CatBoost().load_model('${file}').save_model('${join(dirname(file), 'model.onnx')}', format='onnx')`,
      ),
  },
  {
    title: 'an XGBoost model',
    converter: 'onnxmltools',
    matches: async (file, head) =>
      ending('.ubj', '.xgb')(file) ||
      (ending('.bin')(file) && (await head()).startsWith('binf')) ||
      (ending('.json', '.bin', '.model')(file) && /^\s*\{\s*L?.{0,9}"learner"/s.test(await head())),
    command: (file) =>
      python(
        `import xgboost, onnxmltools; from onnxmltools.convert.common.data_types import FloatTensorType; b = xgboost.Booster(model_file='${file}'); onnxmltools.utils.save_model(onnxmltools.convert_xgboost(b, initial_types=[('x', FloatTensorType([None, b.num_features()]))]), '${join(dirname(file), 'model.onnx')}')`,
      ),
  },
  {
    title: 'a LightGBM model',
    converter: 'onnxmltools',
    matches: async (file, head) =>
      ending('.txt', '.model', '.lgb', '.bin')(file) && /^tree\r?\nversion=/.test(await head()),
    command: (file) =>
      python(
        `import lightgbm, onnxmltools; from onnxmltools.convert.common.data_types import FloatTensorType; b = lightgbm.Booster(model_file='${file}'); onnxmltools.utils.save_model(onnxmltools.convert_lightgbm(b, initial_types=[('x', FloatTensorType([None, b.num_feature()]))]), '${join(dirname(file), 'model.onnx')}')`,
      ),
  },
];

/**
 * Returns when `path`, a file or a directory, is or holds no known foreign model.
 *
 * @throws ServingError `SRV_FOREIGN_FORMAT` naming the converter and its command line.
 */
export async function explainForeignFormat(path: string): Promise<void> {
  for (const file of await filesOf(path)) {
    for (const format of formats) {
      if (!(await format.matches(file, () => headOf(file)))) continue;
      throw new ServingError(
        'SRV_FOREIGN_FORMAT',
        `${file} is ${format.title}, not ONNX. Convert it with ${format.converter}:\n  ${format.command(file)}`,
        { details: { file, converter: format.converter } },
      );
    }
  }
}

/** A path that cannot be looked into is nobody's format: opening it for real says what is wrong. */
async function filesOf(path: string): Promise<string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(path, entry.name))
      .sort();
  } catch {
    return [];
  }
}

async function headOf(file: string): Promise<string> {
  try {
    await using handle = await open(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(256), 0, 256, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    return '';
  }
}

function target(directory: string): string {
  return quoted(join(directory, 'model.onnx'));
}

function quoted(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function python(program: string): string {
  return `python -c "${program}"`;
}
