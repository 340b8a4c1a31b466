#pragma once

#include <cstddef>
#include <cstdint>

namespace onnx_serving {

/** First `[`, `]`, `{`, `}` or `"` in [at, end), or `end`. */
const uint8_t* findStructural(const uint8_t* at, const uint8_t* end);

/** First `"`, backslash or byte below 0x20 or above 0x7F in [at, end), or `end`: where plain string text
 * ends. */
const uint8_t* findStringBreak(const uint8_t* at, const uint8_t* end);

/**
 * Checks that [at, end) is UTF-8 (RFC 3629: no surrogates, no overlong forms).
 *
 * @return the first byte of the first bad sequence, or `end`. `isAscii` is cleared when a byte is above 0x7F.
 */
const uint8_t* findInvalidUtf8(const uint8_t* at, const uint8_t* end, bool& isAscii);

/** One byte at a time: what the functions above must agree with. */
namespace scalar {
const uint8_t* findStructural(const uint8_t* at, const uint8_t* end);
const uint8_t* findStringBreak(const uint8_t* at, const uint8_t* end);
}  // namespace scalar

}  // namespace onnx_serving
