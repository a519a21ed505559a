package funnelwatch.bench;

import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** The number of records done, in the file that the bench has mapped too (tests/bench/progress.py). */
final class Progress {
  private final MappedByteBuffer memory;
  private long done;

  Progress(Path path) throws IOException {
    try (FileChannel file = FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      memory = file.map(FileChannel.MapMode.READ_WRITE, 0, Long.BYTES);
    }
    memory.order(ByteOrder.LITTLE_ENDIAN);
  }

  synchronized void add(long records) {
    done += records;
    memory.putLong(0, done);
  }
}
