-- KEYS calm, instances, lease. ARGV instance, time of the lease, silence that tells of a gap, expiry, whether the lease is made
-- anew where it is gone. Times in milliseconds. Returns 1 if the lease was there, 0 if not.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local heard = tonumber(field(KEYS[1], 'heard') or '')
local since = tonumber(field(KEYS[1], 'since') or '')
if not heard or not since or now < heard or now - heard > tonumber(ARGV[3]) then
  since = now
end
redis.call('HSET', KEYS[1], 'heard', string.format('%.0f', now), 'since', string.format('%.0f', since))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local there = redis.call('EXISTS', KEYS[3])
if there == 1 or ARGV[5] == '1' then
  redis.call('SET', KEYS[3], string.format('%.0f', now), 'PX', ARGV[2])
  call('SADD', KEYS[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return there
