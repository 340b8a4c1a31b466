{
  "targets": [
    {
      "target_name": "onnx_serving",
      "sources": [
        "<!@(node -p \"require('node:fs').readFileSync('native/sources.txt', 'utf8').trim().split(/\\s+/).map((name) => 'native/' + name).join(' ')\")"
      ],
      "defines": ["NAPI_VERSION=8"],
      "cflags": ["-O3", "-Wall", "-Wextra", "-fvisibility=hidden", "-ffp-contract=off"],
      "cflags_cc!": ["-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-fno-exceptions", "-fno-rtti"],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
        "GCC_ENABLE_CPP_EXCEPTIONS": "NO",
        "GCC_OPTIMIZATION_LEVEL": "3",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "OTHER_CFLAGS": ["-ffp-contract=off"]
      }
    }
  ]
}
