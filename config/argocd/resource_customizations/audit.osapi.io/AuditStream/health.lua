-- The operator follows kstatus: Ready always says how the resource stands, Stalled is there only while somebody has to act,
-- and what is neither passes by itself. Only the last status that the operator wrote for this generation counts.
local function condition(kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, c in ipairs(obj.status.conditions) do
      if c.type == kind then
        return c
      end
    end
  end
  return nil
end

local function health(status, message)
  return {status = status, message = message}
end

local ready = condition("Ready")
local observed = obj.status ~= nil and obj.status.observedGeneration == obj.metadata.generation

if obj.metadata.deletionTimestamp ~= nil then
  if observed and ready ~= nil and ready.reason == "Deleting" then
    return health("Progressing", ready.message)
  end
  return health("Progressing", "Waiting for the deletion")
end

if ready == nil or not observed then
  return health("Progressing", "Waiting for the operator to take up generation " .. tostring(obj.metadata.generation))
end

local message = ready.reason .. ": " .. ready.message

if ready.status == "True" then
  return health("Healthy", message)
end

if ready.reason == "Suspended" or ready.reason == "DryRun" then
  return health("Suspended", message)
end

local stalled = condition("Stalled")
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", message)
end

return health("Progressing", message)
