/** The execution providers that a device group may run on, as data: nothing else in the code names one. */
interface ProviderFacts {
  /** The engine's own name of the provider, as `executionProviders` of a session takes it. */
  readonly engineName: string;
  /** Whether a session takes the id of a card; without it, ids only count the groups. */
  readonly takesDeviceId: boolean;
  /** What it is, in a few words, for help texts and the start-up table. */
  readonly title: string;
  /** What to install when the engine has no such provider: the end of the error's sentence. */
  readonly installHint: string;
}

/** Every provider by the name that `provider` in a configuration gives it. */
export const providers = {
  cuda: {
    engineName: 'cuda',
    takesDeviceId: true,
    title: 'NVIDIA CUDA',
    installHint:
      "the engine's npm package brings its CUDA libraries only when its install script may download them: " +
      'run `npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12` on a Linux x64 machine, and install ' +
      'the CUDA 12 runtime and cuDNN 9 (apt or conda, or the wheels nvidia-cuda-runtime-cu12 and nvidia-cudnn-cu12)',
  },
  tensorrt: {
    engineName: 'tensorrt',
    takesDeviceId: true,
    title: 'NVIDIA TensorRT',
    installHint:
      'it needs all that `cuda` needs (`npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12`) and the ' +
      'TensorRT 10 libraries on the library path (apt package tensorrt, or the wheel tensorrt-cu12)',
  },
  webgpu: {
    engineName: 'webgpu',
    takesDeviceId: false,
    title: 'WebGPU',
    installHint:
      "the engine's npm package brings WebGPU on macOS, Windows and Linux x64; the machine needs a Vulkan, Metal " +
      'or Direct3D 12 driver (on Debian: apt install mesa-vulkan-drivers or the vendor driver)',
  },
  cpu: {
    engineName: 'cpu',
    takesDeviceId: false,
    title: 'CPU',
    installHint: "it is part of the engine's npm package: run `npm install` again",
  },
} as const satisfies Record<string, ProviderFacts>;

/** A provider's name in configurations. */
export type ProviderName = keyof typeof providers;

/** The providers' names, in the order help texts list them. */
export const providerNames = Object.keys(providers) as readonly ProviderName[];
