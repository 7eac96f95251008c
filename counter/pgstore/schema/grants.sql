GRANT SELECT ON counterd_schema TO %[1]s;
GRANT SELECT, INSERT ON counterd_known TO %[1]s;
GRANT SELECT, INSERT, UPDATE ON counterd_counter TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON counterd_path TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON counterd_replica TO %[1]s;
