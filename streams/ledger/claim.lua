-- Take a shard over. KEYS[1] {shard}:meta
-- ARGV 1 token  2 offset where a new shard begins  3 generation of a new shard
-- Returns [epoch, all fields of meta]
local meta = KEYS[1]
if redis.call('HEXISTS', meta, 'generation') == 0 then
  redis.call('HSET', meta, 'next', ARGV[2], 'watermark', '-1', 'generation', ARGV[3], 'seq', '0', 'done', '0')
end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', meta, 'token', ARGV[1])
return {tostring(epoch), redis.call('HGETALL', meta)}
