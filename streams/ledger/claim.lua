-- Take a shard over. KEYS[1] {shard}:meta
-- ARGV 1 token  2 offset where a new shard begins  3 generation of a new shard  4... definitions that are counted from now on
-- A definition that the holder before did not count begins at the watermark; one that is counted no more has ended.
-- Returns [epoch, all fields of meta]
local meta = KEYS[1]
if redis.call('HEXISTS', meta, 'generation') == 0 then
  redis.call('HSET', meta, 'next', ARGV[2], 'watermark', '-1', 'generation', ARGV[3], 'seq', '0', 'done', '0')
end
local counted = {}
for i = 4, #ARGV do counted['since:' .. ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', meta)) do
  if string.sub(field, 1, 6) == 'since:' and not counted[field] then redis.call('HDEL', meta, field) end
end
local watermark = redis.call('HGET', meta, 'watermark')
for field in pairs(counted) do redis.call('HSETNX', meta, field, watermark) end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', meta, 'token', ARGV[1])
return {tostring(epoch), redis.call('HGETALL', meta)}
