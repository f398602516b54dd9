-- Taken out rather than set to false, so that the resource is again as it was before it was suspended.
obj.spec.suspend = nil
return obj
