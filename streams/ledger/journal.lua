-- The newest entries of a shard's journal, and what its meta said at that moment. KEYS[1] {shard}:meta  KEYS[2] {shard}:journal
-- ARGV 1 how many at most
-- Returns [all fields of meta, the entries, oldest first]
return {redis.call('HGETALL', KEYS[1]), redis.call('LRANGE', KEYS[2], -tonumber(ARGV[1]), -1)}
