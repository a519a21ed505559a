-- Forget a definition's counts, or note that they have been counted anew. KEYS[1] {shard}:meta
-- What has no counts any more begins at the watermark: until "done", readers know that it is not whole.
-- ARGV 1 epoch  2 token  3 "drop" or "done"  4 definition  5 watermark since which it is counted (done)
--      6 prefix of the shard's keys  7 a new generation, so that whoever follows the journal reads the shard anew (drop)
--      8... keys of counts to forget (drop)
local meta = KEYS[1]
local held = redis.call('HMGET', meta, 'epoch', 'token', 'watermark')
if not held[1] then return {'nostate'} end
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return {'fenced', held[1]} end
if ARGV[3] == 'done' then
  redis.call('HSET', meta, 'since:' .. ARGV[4], ARGV[5])
  redis.call('HDEL', meta, 'backfill:' .. ARGV[4])
else
  redis.call('HSET', meta, 'generation', ARGV[7])
  if redis.call('HEXISTS', meta, 'since:' .. ARGV[4]) == 1 then redis.call('HSET', meta, 'since:' .. ARGV[4], held[3]) end
  for i = 8, #ARGV do redis.call('UNLINK', ARGV[6] .. ARGV[i]) end
end
return {'ok'}
