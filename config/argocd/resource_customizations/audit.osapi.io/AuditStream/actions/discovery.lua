local suspended = obj.spec.suspend == true
-- A deletion goes its way whatever spec.suspend says.
local deleting = obj.metadata.deletionTimestamp ~= nil

local actions = {}
actions["suspend"] = {["disabled"] = suspended or deleting}
actions["resume"] = {["disabled"] = not suspended or deleting}
return actions
