package funnelwatch.bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/** An event of the bench, as far as the funnel looks at it. */
@JsonIgnoreProperties(ignoreUnknown = true)
record Click(
    String event,
    @JsonProperty("timestamp") long atMs,
    @JsonProperty("user_id") String user,
    Properties properties) {

  private static final ObjectReader READER = new ObjectMapper().readerFor(Click.class);

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Properties(String channel, double amount) {}

  static final class Json implements Deserializer<Click> {
    @Override
    public Click deserialize(String topic, byte[] value) {
      try {
        return READER.readValue(value);
      } catch (IOException error) {
        throw new SerializationException("a record of " + topic + " is no event of the bench", error);
      }
    }
  }
}
