-- KEYS sessions, stream. ARGV resource, session, instance, record, owner, fence, expiry, then the stream's fields and values:
--   resource   whose session it is            owner      instance, hexadecimal
--   session    its id, hexadecimal            previous   instance, or '' where no hand-over runs
--   fence      decimal                        state      live, detached or ended
--   until      when a detached one ends, ms   h          decimal
--   seconds    decimal                        details    as its owner wrote them
--   change     the owner's number of the last change
-- Returns 0 another session's or another owner's, 1 done, 2 the session is lost.
local held = readable(field(KEYS[1], ARGV[1]))
if not held then
  return 2
end
if not is(held, ARGV[2], ARGV[3]) then
  return 0
end
local owner = field(KEYS[2], 'owner')
if owner and (owner ~= ARGV[5] or (tonumber(field(KEYS[2], 'fence') or '') or 0) > tonumber(ARGV[6])) then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 8))
redis.call('PEXPIRE', KEYS[2], ARGV[7])
if changed(held) < changed(ARGV[4]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
return 1
