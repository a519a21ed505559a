package funnelwatch.bench;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * Where somebody is in the funnel. As bytes, mark by mark: when (8 bytes; NONE if there is none), length of the channel's
 * name (1 byte), the name in UTF-8.
 */
final class Journey {
  static final int STAGES = 4;
  private static final long NONE = Long.MIN_VALUE;
  private static final int CHANNEL_BYTES_MAX = 255;
  private static final byte[] NO_BYTES = {};

  /** By stage: when the newest chain that came so far began, and on which channel. */
  final Mark[] chains = new Mark[STAGES];

  /** By stage: when it was last reached, and on which channel. */
  final Mark[] latest = new Mark[STAGES];

  record Mark(long atMs, String channel) {}

  byte[] packed() {
    byte[][] channels = new byte[2 * STAGES][];
    int size = 2 * STAGES * (Long.BYTES + 1);
    for (int place = 0; place < channels.length; place++) {
      Mark mark = mark(place);
      channels[place] = mark == null ? NO_BYTES : mark.channel.getBytes(StandardCharsets.UTF_8);
      if (channels[place].length > CHANNEL_BYTES_MAX) {
        throw new IllegalArgumentException("a channel's name has more than " + CHANNEL_BYTES_MAX + " bytes");
      }
      size += channels[place].length;
    }
    ByteBuffer packed = ByteBuffer.allocate(size);
    for (int place = 0; place < channels.length; place++) {
      Mark mark = mark(place);
      packed.putLong(mark == null ? NONE : mark.atMs).put((byte) channels[place].length).put(channels[place]);
    }
    return packed.array();
  }

  static Journey unpacked(byte[] bytes) {
    Journey journey = new Journey();
    ByteBuffer packed = ByteBuffer.wrap(bytes);
    for (int place = 0; place < 2 * STAGES; place++) {
      long atMs = packed.getLong();
      int length = packed.get() & 0xff;
      if (atMs != NONE) {
        String channel = new String(bytes, packed.position(), length, StandardCharsets.UTF_8);
        (place < STAGES ? journey.chains : journey.latest)[place % STAGES] = new Mark(atMs, channel);
      }
      packed.position(packed.position() + length);
    }
    return journey;
  }

  private Mark mark(int place) {
    return place < STAGES ? chains[place] : latest[place - STAGES];
  }
}
