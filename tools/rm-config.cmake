# find_package(rm) gives the target rm::rm; #include <rm/rm_pool.h> works with it.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

if(NOT TARGET rm::rm)
  get_filename_component(_rm_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  add_library(rm::rm INTERFACE IMPORTED)
  set_target_properties(rm::rm PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${_rm_prefix}/include"
    INTERFACE_LINK_LIBRARIES Threads::Threads)
  unset(_rm_prefix)
endif()
