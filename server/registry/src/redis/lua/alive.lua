-- KEYS calm, leases. ARGV silence that tells of a gap, for how long nobody is taken for dead after one (milliseconds).
-- Returns whether a lease that is not there says something, and for each lease whether it is there. It says nothing where
-- instances have not been heard for long enough to tell one that is gone from one that could not renew.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local heard = tonumber(field(KEYS[1], 'heard') or '')
local since = tonumber(field(KEYS[1], 'since') or '')
local calm = heard and since and now >= heard and now - heard <= tonumber(ARGV[1]) and now - since >= tonumber(ARGV[2])
local answer = {calm and 1 or 0}
for index = 2, #KEYS do
  answer[index] = redis.call('EXISTS', KEYS[index])
end
return answer
