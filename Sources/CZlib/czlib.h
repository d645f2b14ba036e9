#include <zlib.h>

/// `inflateInit2` and `inflateEnd` are macros or take the size of the stream; Swift calls these.
static inline int riffle_inflate_start(z_stream *stream, int window_bits) {
  return inflateInit2(stream, window_bits);
}

/// The same of `deflateInit2`.
static inline int riffle_deflate_start(z_stream *stream, int window_bits) {
  return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, 8,
                      Z_DEFAULT_STRATEGY);
}
