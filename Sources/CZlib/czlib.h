#include <zlib.h>

/// `inflateInit2` and `inflateEnd` are macros or take the size of the stream; Swift calls these.
static inline int riffle_inflate_start(z_stream *stream, int window_bits) {
  return inflateInit2(stream, window_bits);
}
