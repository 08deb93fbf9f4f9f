-- Read before every script. Places are those of record.rs, counted from one.

-- Carries out a command. A key of another type, which holds nothing of ours, goes.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then
      error(reply.err)
    end
    redis.call('DEL', key)
    return redis.call(command, key, ...)
  end
  return reply
end

-- Reads a field.
local function field(key, name)
  return call('HGET', key, name)
end

-- The record, if it is one.
local function readable(record)
  return record and #record >= 35 and string.sub(record, 1, 1) == '\1' and record
end

-- Whether a readable record is that of this session at this instance.
local function is(record, id, instance)
  return string.sub(record, 2, 17) == id and string.sub(record, 18, 25) == instance
end

-- The number of the change that wrote a readable record.
local function changed(record)
  return (struct.unpack('>I8', string.sub(record, 26, 33)))
end

-- The same of the presence of this session; below all others where there is none.
local function presence_changed(presence, id)
  if presence and #presence >= 25 and string.sub(presence, 1, 1) == '\1' and string.sub(presence, 2, 17) == id then
    return (struct.unpack('>I8', string.sub(presence, 18, 25)))
  end
  return -1
end

-- Lets a key live on when half of its time is over.
local function keep(key, expiry)
  local left = redis.call('PTTL', key)
  if left ~= -2 and left < expiry / 2 then
    redis.call('PEXPIRE', key, expiry)
  end
end
