-- KEYS sessions, presence. ARGV resource, session, instance, number of the change, record ('' as it was), what happens to
-- presence ('=' nothing, '-' it goes, '+' it is this), presence, expiry.
-- Returns 0 another session's, 1 done, 2 the record is lost, 3 something newer was there.
local held = readable(field(KEYS[1], ARGV[1]))
if not held then
  return 2
end
if not is(held, ARGV[2], ARGV[3]) then
  return 0
end
local change, result = tonumber(ARGV[4]), 1
if ARGV[5] ~= '' then
  if changed(held) < change then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
    redis.call('PEXPIRE', KEYS[1], ARGV[8])
  else
    result = 3
  end
end
if ARGV[6] ~= '=' then
  local presence = field(KEYS[2], ARGV[1])
  if changed(held) > change or presence_changed(presence, ARGV[2]) >= change then
    result = 3
  elseif ARGV[6] == '-' then
    redis.call('HDEL', KEYS[2], ARGV[1])
  else
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[7])
    redis.call('PEXPIRE', KEYS[2], ARGV[8])
  end
end
return result
