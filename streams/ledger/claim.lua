-- Take a shard over. KEYS[1] {shard}:meta
-- ARGV 1 token  2 partitions of the topic  3 offset where a new shard begins  4 generation of a new shard
-- Returns ['changed', stored partitions] or ['ok', epoch, all fields of meta]
local meta = KEYS[1]
local partitions = redis.call('HGET', meta, 'partitions')
if partitions and partitions ~= ARGV[2] then return {'changed', partitions} end
if not partitions then
  redis.call('HSET', meta, 'partitions', ARGV[2], 'next', ARGV[3], 'watermark', '-1', 'generation', ARGV[4], 'seq', '0', 'done', '0')
end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', meta, 'token', ARGV[1])
return {'ok', tostring(epoch), redis.call('HGETALL', meta)}
